//! The order of start and stop, as an observer sees it that looks at the apps alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Action, EventKind, Run};
use crate::spec::AppSpec;
use crate::spec::dependency::Condition;
use crate::supervisor::{
    App, AppId, Effect, Goal, Operation, Process, ProcessId, Request, Snapshot, State, Supervisor,
};

/// How things were before an input.
pub struct Before {
    /// Processes that were not down.
    up: BTreeSet<ProcessId>,
    serving: BTreeSet<ProcessId>,
    /// Apps that something was being done to.
    busy: BTreeSet<AppId>,
    /// Apps of which a scale may take something down as well.
    scaling: BTreeSet<AppId>,
    /// Processes that a stop was at work on.
    stopping: BTreeSet<ProcessId>,
    /// What was true of apps, by name.
    true_of: BTreeSet<(String, Condition)>,
}

impl Before {
    pub fn of(supervisor: &Supervisor) -> Before {
        let ids = |is_so: fn(&Process) -> bool| {
            supervisor.processes().filter(|process| is_so(process)).map(|process| process.id).collect()
        };
        let begun = |app: &&App| app.operations.iter().any(Operation::is_under_way);
        let scales = |app: &&App| app.operations.iter().any(Operation::changes_count);
        Before {
            scaling: supervisor.apps().filter(scales).map(|app| app.id).collect(),
            up: ids(|process| !matches!(process.state, State::Stopped | State::Errored)),
            serving: ids(Process::serves),
            busy: supervisor.apps().filter(begun).map(|app| app.id).collect(),
            stopping: stops(supervisor).flat_map(|(_, stop)| stop.active.clone()).collect(),
            true_of: supervisor.apps().flat_map(|app| facts(supervisor, app)).collect(),
        }
    }

    pub fn check(&self, supervisor: &Supervisor, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Spawn { process, .. } = effect
                && !self.up.contains(process)
                && let Some(process) = supervisor.process(*process)
                && !self.busy.contains(&process.app)
            {
                self.comes_after(supervisor, &supervisor.apps[&process.app], effects);
            }
        }
        for (app, stop) in stops(supervisor).filter(|(app, _)| !self.scaling.contains(&app.id)) {
            let waits_for = supervisor.apps().find(|other| {
                let first = |one: &Operation| one.kind.overtakes() && one.place < stop.place;
                needs(&other.spec, &app.spec) && other.operations.iter().any(first)
            });
            let went = stop.active.iter().find(|id| self.serving.contains(id) && !self.stopping.contains(id));
            let early = waits_for.zip(went);
            assert!(early.is_none(), "{early:?} was stopped before what depends on it");
        }
    }

    /// Whatever is started first must find what it needs. Within one input that may come to be and be over again.
    fn comes_after(&self, supervisor: &Supervisor, app: &App, effects: &[Effect]) {
        let spec = &app.spec;
        let does_without = |name: &String| app.operations.iter().any(|operation| operation.without.contains(name));
        for (name, condition) in spec.depends_on.iter().filter(|(name, _)| !does_without(name)) {
            let other = named(supervisor, name);
            let all: Vec<&Process> = other.iter().flat_map(|app| supervisor.members(app.id)).collect();
            let met = other.is_some_and(|app| is_true(supervisor, app, *condition));
            let was_met = self.true_of.contains(&(name.clone(), *condition));
            let came = |effect: &Effect| {
                let Effect::Publish { process, kind } = effect else { return false };
                let telling = matches!(kind, EventKind::Online | EventKind::Healthy | EventKind::Completed);
                telling && all.iter().any(|member| member.id == *process)
            };
            assert!(
                met || was_met || effects.iter().any(came),
                "`{}` starts and `{name}` is not {condition:?}: {all:?}",
                spec.name
            );
        }
    }
}

fn stops(supervisor: &Supervisor) -> impl Iterator<Item = (&App, &Operation)> {
    let of = |app| -> Vec<(&App, &Operation)> {
        let app: &App = app;
        app.operations.iter().filter(|it| it.kind.overtakes()).map(|it| (app, it)).collect()
    };
    supervisor.apps().flat_map(of)
}

fn needs(one: &AppSpec, other: &AppSpec) -> bool {
    one.depends_on.contains_key(&other.name)
}

fn named<'a>(supervisor: &'a Supervisor, name: &str) -> Option<&'a App> {
    supervisor.apps().find(|app| app.spec.name == name)
}

fn facts(supervisor: &Supervisor, app: &App) -> Vec<(String, Condition)> {
    let all = [Condition::Started, Condition::Ready, Condition::Healthy, Condition::Completed];
    let facts = all.into_iter().filter(|condition| is_true(supervisor, app, *condition));
    facts.map(|condition| (app.spec.name.clone(), condition)).collect()
}

fn is_true(supervisor: &Supervisor, app: &App, condition: Condition) -> bool {
    let members = || supervisor.members(app.id).filter(|process| process.goal != Goal::Gone);
    let wanted = || members().filter(|process| process.goal == Goal::Up);
    let done = members().count() > 0 && members().all(|it| it.completed && it.state == State::Stopped);
    let ready = |process: &Process| process.serves() || process.rests();
    match condition {
        Condition::Started => done || wanted().any(|it| ready(it) || matches!(it.state, State::Launching { .. })),
        Condition::Ready => done || (wanted().count() > 0 && wanted().all(ready)),
        Condition::Healthy => wanted().count() > 0 && wanted().all(|it| ready(it) && !it.is_unhealthy()),
        Condition::Completed => done,
    }
}

/// The runs of jobs whose end another app waits for.
pub fn awaited(supervisor: &Supervisor) -> Vec<Run> {
    let waits = |app: &App| {
        let held = |operation: &Operation| operation.held.as_ref().is_some_and(|why| why.ends_with("to complete"));
        app.operations.iter().any(held)
    };
    let specs = supervisor
        .apps()
        .filter(|app| waits(app))
        .flat_map(|app| app.operations.iter().filter_map(|it| it.spec.as_deref()).chain([&*app.spec]));
    let names: BTreeSet<&str> = specs
        .flat_map(|spec| &spec.depends_on)
        .filter(|(_, condition)| **condition == Condition::Completed)
        .map(|(name, _)| name.as_str())
        .collect();
    let serving = |process: &Process| match process.state {
        State::Online(serving) => Some(serving.run),
        State::Stopped
        | State::Launching { .. }
        | State::Canary { .. }
        | State::Stopping(_)
        | State::Waiting { .. }
        | State::Idle
        | State::Errored => None,
    };
    // A rollback may have made something else of it.
    let is_job = |spec: &AppSpec| names.contains(&*spec.name) && spec.never(Condition::Completed).is_none();
    supervisor.processes().filter(|process| is_job(&supervisor.apps[&process.app].spec)).filter_map(serving).collect()
}

/// All the specs an app has, or may come to have.
fn specs(app: &App) -> impl Iterator<Item = &AppSpec> {
    let planned = app.operations.iter().flat_map(|it| it.spec.as_deref().into_iter().chain(it.previous.as_deref()));
    planned.chain([&*app.spec])
}

/// True if what is asked of the app may wait for another, and so come to nothing.
pub fn may_wait(supervisor: &Supervisor, app: AppId) -> bool {
    specs(&supervisor.apps[&app]).any(|spec| !spec.depends_on.is_empty())
}

/// Whatever a request may start besides what it names.
pub fn dependencies(supervisor: &Supervisor, ask: &Request, about: &[ProcessId]) -> BTreeSet<AppId> {
    let asked: Vec<&AppSpec> = match ask {
        Request::Launch { apps, .. } => apps.iter().collect(),
        Request::Restore(snapshot) => snapshot.apps.iter().map(|app| &app.spec).collect(),
        Request::ShutDown | Request::Act { action: Action::Stop | Action::Delete, .. } => return BTreeSet::new(),
        Request::Act { .. } => vec![],
    };
    let apps: BTreeSet<AppId> = about.iter().map(|id| supervisor.processes[id].app).collect();
    let mut names: Vec<String> = asked.iter().flat_map(|spec| spec.depends_on.keys().cloned()).collect();
    names.extend(apps.iter().flat_map(|app| specs(&supervisor.apps[app])).flat_map(|it| it.depends_on.keys().cloned()));
    let mut found = BTreeSet::new();
    while let Some(name) = names.pop() {
        if let Some(app) = named(supervisor, &name)
            && found.insert(app.id)
        {
            names.extend(specs(app).flat_map(|spec| spec.depends_on.keys().cloned()));
        }
    }
    found
}

/// The list with every job that other apps need completed marked as up: these jobs run again after a boot.
pub fn without_jobs(mut snapshot: Snapshot) -> Snapshot {
    let needed = snapshot.apps.iter().flat_map(|app| &app.spec.depends_on);
    let jobs: BTreeSet<String> =
        needed.filter(|(_, condition)| **condition == Condition::Completed).map(|(name, _)| name.clone()).collect();
    for app in snapshot.apps.iter_mut().filter(|app| jobs.contains(&app.spec.name)) {
        app.processes.iter_mut().for_each(|process| (process.up, process.idle) = (true, false));
    }
    snapshot
}

/// True if something that the app needs is not known, or can never be as it is needed.
pub fn lacks(supervisor: &Supervisor, app: AppId) -> bool {
    let by_name: BTreeMap<&str, &App> = supervisor.apps().map(|app| (&*app.spec.name, app)).collect();
    let mut next = vec![&supervisor.apps[&app]];
    let mut seen = BTreeSet::new();
    while let Some(app) = next.pop() {
        for (name, condition) in &app.spec.depends_on {
            match by_name.get(name.as_str()) {
                Some(other) if other.spec.never(*condition).is_none() => {
                    next.extend(Some(*other).filter(|other| seen.insert(other.id)));
                }
                Some(_) | None => return true,
            }
        }
    }
    false
}
