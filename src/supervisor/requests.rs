//! From requests to operations. A request is checked as a whole before anything changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::app::App;
use super::id::{AppId, ProcessId, Ticket};
use super::input::{Effect, Request};
use super::moment::Moment;
use super::operation::{Kind, Operation};
use super::persist::RecordKey;
use super::process::{Goal, Process};
use super::snapshot::Snapshot;
use super::state::{Supervisor, Wait};
use crate::protocol::{Action, Changes, Launch, Refusal, ReportLine, Scale, Verdict};
use crate::spec::keys::read::MAX_INSTANCES;
use crate::spec::target::{self, Selector};
use crate::spec::{AppSpec, keys};

/// Operations to enqueue, with their apps.
pub(crate) type Plan = Vec<(AppId, Operation)>;

impl Supervisor {
    pub(crate) fn ask(&mut self, now: Moment, ticket: Ticket, ask: Request, effects: &mut Vec<Effect>) {
        if self.closing && !matches!(ask, Request::ShutDown) {
            return effects.push(Effect::Settle { ticket, answer: Err(Refusal::ShuttingDown) });
        }
        self.waits.insert(ticket, Wait::default());
        let plan = match ask {
            Request::Launch { apps, how } => self.launch(now, ticket, apps, how, effects),
            Request::Act { action, target } => self.act(now, ticket, &action, &target, effects),
            Request::Restore(snapshot) => Ok(self.restore(now, ticket, snapshot, effects)),
            Request::ShutDown => Ok(self.close_down(ticket)),
        };
        match plan {
            Ok(plan) => self.set_out(now, ticket, plan, effects),
            Err(refusal) => {
                self.waits.remove(&ticket);
                effects.push(Effect::Settle { ticket, answer: Err(refusal) });
            }
        }
    }

    /// Enqueues the plan; a ticket with nothing to wait for is answered at once.
    fn set_out(&mut self, now: Moment, ticket: Ticket, plan: Plan, effects: &mut Vec<Effect>) {
        let plan = self.in_order(ticket, plan);
        let wait = self.waits.entry(ticket).or_default();
        wait.open = plan.len();
        if plan.is_empty()
            && let Some(wait) = self.waits.remove(&ticket)
        {
            effects.push(Effect::Settle { ticket, answer: Ok(wait.report) });
        }
        // All of them first: nothing of one app may begin anything for want of another that is stopped before it.
        for (app, operation) in plan.iter().filter(|(_, operation)| operation.kind.overtakes()) {
            self.supersede(*app, operation);
        }
        for (app, operation) in plan {
            self.enqueue(now, app, operation, effects);
        }
    }

    // Launch.

    fn launch(
        &mut self,
        now: Moment,
        ticket: Ticket,
        apps: Vec<AppSpec>,
        how: Launch,
        effects: &mut Vec<Effect>,
    ) -> Result<Plan, Refusal> {
        self.check_launch(&apps, how)?;
        if let Launch::OrReload(rollout) = how
            && rollout.dry_run
        {
            return Ok(self.preview_launch(ticket, &apps, &rollout));
        }
        let mut plan = Plan::new();
        for mut spec in apps {
            self.share_env(&mut spec);
            match self.find(&spec).map(|known| known.id) {
                None => plan.extend(self.launch_new(now, ticket, spec, effects)),
                Some(known) => self.launch_known(ticket, known, spec, how, &mut plan),
            }
        }
        Ok(plan)
    }

    /// Apps started from one shell have the same environment: it is kept once, with whichever app had it last.
    fn share_env(&self, spec: &mut AppSpec) {
        let same = [self.find(spec), self.apps.values().next_back()].into_iter().flatten();
        if let Some(app) = same.map(|app| &app.spec).find(|other| other.base_env == spec.base_env) {
            spec.base_env = Arc::clone(&app.base_env);
        }
    }

    fn check_launch(&self, apps: &[AppSpec], how: Launch) -> Result<(), Refusal> {
        for (at, spec) in apps.iter().enumerate() {
            if apps[..at].iter().any(|other| other.name == spec.name && other.namespace == spec.namespace) {
                let why = format!("two apps are called `{}`; give one another name or namespace", spec.name);
                return Err(Refusal::BadSetting { key: "name".into(), why });
            }
            if spec.instances > MAX_INSTANCES {
                return Err(Refusal::BadCount { why: too_many(&spec.name, spec.instances) });
            }
            let Some(known) = self.find(spec) else { continue };
            let running = self.members(known.id).find(|process| process.goal == Goal::Up && process.is_active());
            if let (Launch::New, Some(process)) = (how, running) {
                return Err(Refusal::AlreadyRunning { name: spec.name.clone(), id: process.id.0 });
            }
        }
        self.check_order(&apps.iter().collect::<Vec<_>>())
    }

    fn launch_new(
        &mut self,
        now: Moment,
        ticket: Ticket,
        spec: AppSpec,
        effects: &mut Vec<Effect>,
    ) -> Option<(AppId, Operation)> {
        let (count, autostart) = (spec.instances.max(1), spec.autostart);
        let app = self.add_app(spec);
        let ids: Vec<ProcessId> = (0..count).map(|_| self.add_process(now, app, None, effects)).collect();
        if autostart {
            return Some((app, Operation::new(Some(ticket), Kind::Start, ids, usize::MAX)));
        }
        for id in ids {
            self.note(ticket, id, Kind::Start.verb(), Verdict::Done);
        }
        None
    }

    fn launch_known(&self, ticket: Ticket, app: AppId, spec: AppSpec, how: Launch, plan: &mut Plan) {
        let members = self.staying(app);
        let operation = match how {
            Launch::New => Operation::new(Some(ticket), Kind::Start, members, usize::MAX),
            Launch::OrRestart => Operation::new(Some(ticket), Kind::Restart, members, usize::MAX),
            Launch::OrReload(rollout) => Operation::reload(Some(ticket), members, &rollout),
        };
        // Even where the count fits now: a scale that waits may change it.
        plan.push((app, operation.with_count(spec.instances).with_spec(Some(spec))));
    }

    // Act.

    fn act(
        &mut self,
        now: Moment,
        ticket: Ticket,
        action: &Action,
        target: &[Selector],
        effects: &mut Vec<Effect>,
    ) -> Result<Plan, Refusal> {
        let ids = self.select(target)?;
        let verb = |kind| move |members| Operation::new(Some(ticket), kind, members, usize::MAX);
        let none = &Changes::default();
        match action {
            Action::Start(changes) => self.plan(&ids, changes, verb(Kind::Start)),
            Action::Restart(changes) => self.plan(&ids, changes, verb(Kind::Restart)),
            Action::Reload { changes, rollout } if rollout.dry_run => self.preview(ticket, &ids, changes, rollout),
            Action::Reload { changes, rollout } => {
                self.plan(&ids, changes, |members| Operation::reload(Some(ticket), members, rollout))
            }
            Action::Stop => self.plan(&ids, none, verb(Kind::Stop)),
            Action::Delete => self.plan(&ids, none, verb(Kind::Delete)),
            Action::Scale(scale) => self.plan_scale(ticket, &ids, *scale),
            Action::Reset | Action::Flush | Action::ReopenLogs | Action::Signal(_) => {
                for id in ids {
                    self.act_at_once(now, ticket, action, id, effects);
                }
                Ok(Plan::new())
            }
        }
    }

    /// The processes the selectors name.
    pub fn select(&self, target: &[Selector]) -> Result<Vec<ProcessId>, Refusal> {
        let candidates = self.candidates();
        if candidates.is_empty() && target.contains(&Selector::All) {
            return Err(Refusal::Empty);
        }
        match target::select(target, &candidates) {
            Ok(ids) => Ok(ids.into_iter().map(ProcessId).collect()),
            Err(unmatched) => {
                let names: Vec<&str> = candidates.iter().map(|candidate| candidate.name).collect();
                let selector = unmatched.text();
                Err(Refusal::NoMatch { similar: target::similar(&selector, &names), selector })
            }
        }
    }

    fn plan(
        &self,
        ids: &[ProcessId],
        changes: &Changes,
        operation: impl Fn(Vec<ProcessId>) -> Operation,
    ) -> Result<Plan, Refusal> {
        let planned = |(app, members)| Ok((app, operation(members).with_spec(self.changed(app, changes)?)));
        let plan: Plan = self.by_app(ids).into_iter().map(planned).collect::<Result<_, _>>()?;
        self.check_order(&plan.iter().filter_map(|(_, operation)| operation.spec.as_deref()).collect::<Vec<_>>())?;
        Ok(plan)
    }

    /// The app's spec with the changes, on top of what operations before will have put into effect.
    pub(crate) fn changed(&self, app: AppId, changes: &Changes) -> Result<Option<AppSpec>, Refusal> {
        if changes.is_empty() {
            return Ok(None);
        }
        let app = &self.apps[&app];
        let mut spec = AppSpec::clone(
            app.operations.iter().rev().find_map(|operation| operation.spec.as_ref()).unwrap_or(&app.spec),
        );
        keys::apply_changes(&mut spec, &changes.settings).map_err(|(key, why)| Refusal::BadSetting { key, why })?;
        if let Some(base_env) = &changes.base_env {
            spec.set_base_env(base_env.clone());
        }
        Ok(Some(spec))
    }

    /// Apps that have the count already are left alone, unless that is all there is to do.
    fn plan_scale(&self, ticket: Ticket, ids: &[ProcessId], scale: Scale) -> Result<Plan, Refusal> {
        let mut plan = Plan::new();
        let mut idle = None;
        for app in self.by_app(ids).into_keys() {
            let count = u32::try_from(self.staying(app).len()).unwrap_or(u32::MAX);
            let App { spec, operations, .. } = &self.apps[&app];
            let waiting = operations.iter().any(Operation::changes_count);
            check_count(&spec.name, count, scale)?;
            if scale == Scale::Up(0) || scale == Scale::Down(0) || (scale == Scale::To(count) && !waiting) {
                idle.get_or_insert(Refusal::NothingToDo { name: spec.name.clone(), instances: count });
            } else {
                plan.push((app, Operation::new(Some(ticket), Kind::Scale(scale), vec![], usize::MAX)));
            }
        }
        idle.filter(|_| plan.is_empty()).map_or(Ok(plan), Err)
    }

    pub(crate) fn by_app(&self, ids: &[ProcessId]) -> BTreeMap<AppId, Vec<ProcessId>> {
        let mut by_app: BTreeMap<AppId, Vec<ProcessId>> = BTreeMap::new();
        for id in ids {
            by_app.entry(self.processes[id].app).or_default().push(*id);
        }
        by_app
    }

    /// What takes no time. Log files are the shell's business: it acts on them before it sends the request.
    fn act_at_once(&mut self, now: Moment, ticket: Ticket, action: &Action, id: ProcessId, effects: &mut Vec<Effect>) {
        let process = self.processes.get_mut(&id).expect("ids come from the index of processes");
        let mut verdict = Verdict::Done;
        match (action, process.current_run()) {
            (Action::Reset, _) => {
                process.reset(now);
                self.touch(RecordKey::Process(id));
            }
            (Action::Signal(signal), Some(run)) => effects.push(Effect::Signal { run, signal: *signal }),
            (Action::Signal(_), None) => {
                verdict = Verdict::Failed { reason: "it is not running".to_owned(), old_serves: false };
            }
            (
                Action::Start(_)
                | Action::Stop
                | Action::Restart(_)
                | Action::Reload { .. }
                | Action::Delete
                | Action::Scale(_)
                | Action::Flush
                | Action::ReopenLogs,
                _,
            ) => {}
        }
        self.note(ticket, id, action.verb(), verdict);
    }

    pub(crate) fn note(&mut self, ticket: Ticket, id: ProcessId, verb: &str, verdict: Verdict) {
        let name = self.processes.get(&id).map(|process| self.apps[&process.app].spec.name.clone());
        let line = ReportLine { id: id.0, name: name.unwrap_or_default(), verb: verb.to_owned(), verdict };
        self.waits.entry(ticket).or_default().report.lines.push(line);
    }

    // The daemon's own life.

    fn restore(&mut self, now: Moment, ticket: Ticket, snapshot: Snapshot, effects: &mut Vec<Effect>) -> Plan {
        let mut plan = Plan::new();
        for mut saved in snapshot.apps {
            self.share_env(&mut saved.spec);
            if self.find(&saved.spec).is_some() {
                let note = format!("`{}` is here already and was left as it is", saved.spec.name);
                self.waits.entry(ticket).or_default().report.notes.push(note);
                continue;
            }
            if saved.processes.is_empty() {
                continue;
            }
            let app = self.add_app(saved.spec);
            let mut up = Vec::new();
            for process in saved.processes {
                let id = self.add_process(now, app, Some(process), effects);
                if process.up && process.idle && self.may_rest(app) {
                    self.with_process(now, id, effects, Process::restore_idle);
                } else if process.up {
                    up.push(id);
                }
            }
            if !up.is_empty() {
                plan.push((app, Operation::new(Some(ticket), Kind::Start, up, usize::MAX)));
            }
        }
        self.do_without(&mut plan);
        plan
    }

    fn close_down(&mut self, ticket: Ticket) -> Plan {
        self.closing = true;
        self.touch(RecordKey::Meta);
        // Processes that are down, too: a start may wait in the queue. And processes that are being deleted: their end
        // is part of the shutdown.
        let all = |app| self.members(app).map(|process| process.id).collect();
        let stop = |app: AppId| (app, Operation::new(Some(ticket), Kind::Stop, all(app), usize::MAX));
        self.apps.keys().copied().map(stop).collect()
    }
}

/// An app keeps at least one process and has no more than can be meant.
fn check_count(name: &str, count: u32, scale: Scale) -> Result<(), Refusal> {
    let wanted = match scale {
        Scale::To(wanted) => wanted,
        Scale::Up(more) => count.saturating_add(more),
        Scale::Down(fewer) => count.saturating_sub(fewer),
    };
    let why = match wanted {
        0 => format!("`{name}` keeps at least one process: `pmr stop {name}` stops it, `pmr delete {name}` removes it"),
        1..=MAX_INSTANCES => return Ok(()),
        _ => too_many(name, wanted),
    };
    Err(Refusal::BadCount { why })
}

fn too_many(name: &str, wanted: u32) -> String {
    format!("{wanted} processes of `{name}` are too many: {MAX_INSTANCES} at most")
}
