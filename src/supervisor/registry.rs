//! Apps, ids, instance numbers; and what is written down to bring them back.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::app::App;
use super::id::{AppId, ProcessId};
use super::input::Effect;
use super::moment::Moment;
use super::persist::RecordKey;
use super::process::{Goal, Process};
use super::snapshot::{SavedApp, SavedProcess, Snapshot};
use super::state::Supervisor;
use crate::protocol::{EventKind, Run};
use crate::spec::target::Candidate;
use crate::spec::{AppSpec, Program};

impl Supervisor {
    /// All processes, by id.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// All apps, by age.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values()
    }

    /// The process of this id; `None` if it was removed.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(&id)
    }

    /// The app of this id; `None` if it was removed.
    #[must_use]
    pub fn app(&self, id: AppId) -> Option<&App> {
        self.apps.get(&id)
    }

    /// The process that answers for a run.
    #[must_use]
    pub fn process_of(&self, run: Run) -> Option<&Process> {
        self.runs.get(&run).and_then(|id| self.processes.get(id))
    }

    /// True from the request to shut down.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// The desired state. What errored is wanted up: the next boot may find its cause gone. So is what a start,
    /// restart, reload or scale that waits is going to start.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let saved = |process: &Process| SavedProcess {
            id: process.id.0,
            instance: process.instance,
            up: self.shall_run(process),
            idle: process.goal == Goal::Up && process.rests() && self.may_rest(process.app),
        };
        let apps = self.apps.values().map(|app| SavedApp {
            spec: AppSpec::clone(&app.spec),
            processes: self.members(app.id).filter(|process| process.goal != Goal::Gone).map(saved).collect(),
        });
        Snapshot { version: Snapshot::VERSION, apps: apps.filter(|app| !app.processes.is_empty()).collect() }
    }

    /// True if a process is to run, as in the [`Supervisor::snapshot`].
    #[must_use]
    pub fn shall_run(&self, process: &Process) -> bool {
        let operations = &self.apps[&process.app].operations;
        let last = operations.iter().rev().find_map(|operation| operation.wish(process.id));
        last.unwrap_or(process.goal == Goal::Up)
    }

    /// The processes of an app, by id.
    pub(super) fn members(&self, app: AppId) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |process| process.app == app)
    }

    /// The processes of an app that stay, by id.
    pub(super) fn staying(&self, app: AppId) -> Vec<ProcessId> {
        self.members(app).filter(|process| process.goal != Goal::Gone).map(|process| process.id).collect()
    }

    /// True if the app is in the list, none of its processes is wanted, and none of their runs may be alive.
    pub(super) fn is_down(&self, app: AppId) -> bool {
        let is_down = |process: &Process| process.goal != Goal::Up && process.is_empty();
        self.apps.contains_key(&app) && self.members(app).all(is_down)
    }

    /// The app of this namespace and name.
    pub(super) fn find(&self, spec: &AppSpec) -> Option<&App> {
        self.apps.values().find(|app| app.spec.namespace == spec.namespace && app.spec.name == spec.name)
    }

    /// What selectors choose from: everything that is not on its way out of the list.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate<'_>> {
        let candidate = |process: &Process| {
            let spec = &self.apps.get(&process.app)?.spec;
            let script: Option<&Path> = match &spec.program {
                Program::Script { script, .. } => Some(script),
                Program::Binary { path } => Some(path),
                Program::CommandLine { .. } => None,
            };
            Some(Candidate { id: process.id.0, name: &spec.name, namespace: &spec.namespace, script })
        };
        self.processes.values().filter(|process| process.goal != Goal::Gone).filter_map(candidate).collect()
    }

    pub(super) fn add_app(&mut self, spec: AppSpec) -> AppId {
        let id = AppId(self.next_app);
        self.next_app += 1;
        self.touch(RecordKey::Meta);
        self.touch(RecordKey::Spec(id));
        self.apps.insert(id, App { id, spec: Arc::new(spec), operations: VecDeque::new() });
        id
    }

    /// Adds a process, down, with the numbers it had if they are free, else with the next free ones.
    pub(super) fn add_process(
        &mut self,
        now: Moment,
        app: AppId,
        saved: Option<SavedProcess>,
        effects: &mut Vec<Effect>,
    ) -> ProcessId {
        let free = |id: &ProcessId| !self.processes.contains_key(id);
        let id = saved.map(|saved| ProcessId(saved.id)).filter(free).unwrap_or(ProcessId(self.next_process));
        let instance = self.free_instance(app, saved.map(|saved| saved.instance));
        self.next_process = self.next_process.max(id.0 + 1);
        self.touch(RecordKey::Meta);
        self.touch(RecordKey::Process(id));
        self.processes.insert(id, Process::new(id, app, instance, now));
        effects.push(Effect::Publish { process: id, kind: EventKind::Created });
        id
    }

    fn free_instance(&self, app: AppId, wanted: Option<u32>) -> u32 {
        let taken: Vec<u32> = self.members(app).map(|process| process.instance).collect();
        wanted
            .into_iter()
            .chain(0..)
            .find(|instance| !taken.contains(instance))
            .expect("there are more numbers than processes")
    }
}
