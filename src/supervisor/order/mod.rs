//! The order of start and stop: an app is brought up after those it depends on, and taken down before them.
//!
//! A requested start, restart, reload or scale up begins when the dependencies of its app meet their conditions. Until
//! then it stands at the head of its app's queue and is *held*. What is down and not on its way is started by the same
//! request. A dependency that ends badly ends what waits for it: processes that run are left as they are, others are
//! errored, so that the next boot tries them again. A dependency that has a problem, but may still come up, is waited
//! for; the client gets its answer at once.
//!
//! An app whose reload fails serves on as it was; what depends on it and was to be reloaded with it is left as it is,
//! too (`skipped`). What is brought back at a boot does without what had been stopped before (`boot`).
//!
//! A stop or delete waits until the stops of the apps that depend on its own are over, as far as they were requested
//! before. Until then it leaves alone what serves; what does not serve goes at once, so that it is not started either.
//! A process that crashes meanwhile is started again: those that are finishing may need it. A successor that is not in
//! charge yet is taken back.
//!
//! *No two operations wait for each other*: each has a place in the order of requests, within one request after its
//! dependencies, and waits for none of a later place. Whatever the specs become, by a rollback for example, there is
//! always an operation that can go on. What the supervisor does of its own accord (restarts after a crash, replacements
//! for memory or health) has no place and waits for no other app.

mod boot;
mod check;
mod plan;
mod skipped;
#[cfg(test)]
mod tests;

use super::app::App;
use super::id::{AppId, ProcessId};
use super::input::Effect;
use super::moment::Moment;
use super::operation::{Kind, Operation};
use super::persist::RecordKey;
use super::process::{Goal, Process, State};
use super::state::Supervisor;
use crate::protocol::{EventKind, Scale, Verdict};
use crate::spec::dependency::Condition;
use crate::spec::{AppSpec, Dependencies};

/// Whether an app meets the condition another app has on it.
enum DependencyState {
    /// The condition holds.
    Met,
    /// The condition does not hold yet, and the dependency may still come to it.
    Pending {
        /// What is waited for, in words: ``waits for `db` to be ready``.
        why: String,
        /// What keeps the dependency from it at present, if something does.
        trouble: Option<String>,
    },
    /// The condition does not hold, and nothing under way changes that; how the dependency ended, in words.
    Failed(String),
}

/// Whether an operation may begin.
enum BeginDecision {
    /// Every dependency is met.
    Begin,
    /// A dependency is pending.
    Wait { why: String, trouble: Option<String> },
    /// A dependency failed: the operation ends, for this reason.
    Fail(String),
    /// The dependencies are met, but the reload of one of them failed: the operation ends, for this reason.
    Skip(String),
}

impl Supervisor {
    /// What a process waits for that is to be started, restarted or reloaded, in words.
    #[must_use]
    pub fn waits_for(&self, process: &Process) -> Option<String> {
        let first = self.apps[&process.app].operations.front()?;
        first.held.clone().filter(|_| !first.begun && first.concerns(process.id))
    }

    /// True if an operation may begin now. If it never will, it is brought to its end.
    pub(super) fn may_begin(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        effects: &mut Vec<Effect>,
    ) -> bool {
        match self.begin_decision(app, operation) {
            BeginDecision::Begin => {
                operation.held = None;
                true
            }
            BeginDecision::Wait { why, trouble } => {
                self.hold(app, operation, why, effects);
                if let Some(trouble) = trouble.filter(|_| operation.ticket.is_some()) {
                    let reason = format!("{trouble}; the {} waits for it", operation.kind.verb());
                    self.report_all(app, operation, &reason);
                    self.close(operation.ticket.take(), effects);
                }
                false
            }
            BeginDecision::Fail(reason) => {
                self.report_ended_jobs(app, operation);
                self.report_all(app, operation, &reason);
                self.fail_waiting(now, app, operation, &reason, effects);
                false
            }
            BeginDecision::Skip(reason) => {
                self.report_all(app, operation, &reason);
                self.abandon(app, operation);
                false
            }
        }
    }

    /// True if a stop is to leave alone what serves, since apps that depend on it are stopping.
    pub(super) fn is_needed(&self, app: AppId, operation: &Operation) -> bool {
        operation.kind.overtakes() && self.stopping_before(app, operation).is_some()
    }

    /// Sets off what a stop that waits need not wait for.
    pub(super) fn stop_idlers(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        effects: &mut Vec<Effect>,
    ) {
        let there = operation.pending.drain(..).filter_map(|id| self.processes.get(&id));
        let (wait, go): (Vec<&Process>, Vec<&Process>) = there.partition(|process| process.serves());
        operation.pending = wait.iter().map(|process| process.id).collect();
        let go: Vec<ProcessId> = go.iter().map(|process| process.id).collect();
        for id in operation.pending.clone() {
            // Nothing new comes up any more.
            self.with_process(now, id, effects, Process::roll_back_run);
        }
        for id in go {
            operation.active.push(id);
            self.set_off(now, id, operation, effects);
        }
        if let Some(other) = self.stopping_before(app, operation).map(|other| &other.spec.name)
            && !operation.pending.is_empty()
        {
            let why = format!("waits until `{other}` has stopped");
            self.hold(app, operation, why, effects);
        }
    }

    /// An app that depends on this one and whose stop comes first.
    fn stopping_before(&self, app: AppId, operation: &Operation) -> Option<&App> {
        let spec = &self.apps.get(&app)?.spec;
        let first = |other: &Operation| other.kind.overtakes() && other.place < operation.place;
        operation.place.and_then(|_| self.dependents(spec).find(|other| other.operations.iter().any(first)))
    }

    /// The apps that depend on this one, as they are now.
    fn dependents(&self, spec: &AppSpec) -> impl Iterator<Item = &App> {
        self.apps.values().filter(|other| needs(&other.spec, spec))
    }

    fn begin_decision(&self, app: AppId, operation: &Operation) -> BeginDecision {
        let spec = operation.spec.as_ref().unwrap_or(&self.apps[&app].spec);
        let (Some(place), true) = (operation.place, self.brings_up(app, operation.kind)) else {
            return BeginDecision::Begin;
        };
        let renews = matches!(operation.kind, Kind::Restart | Kind::Reload);
        let mut gate = BeginDecision::Begin;
        for (name, condition) in spec.depends_on.iter().filter(|(name, _)| !operation.without.contains(*name)) {
            match self.dependency_state(self.named(&spec.namespace, name), name, *condition, place, renews) {
                DependencyState::Failed(how) => {
                    return BeginDecision::Fail(format!("`{name}`, on which it depends, {how}"));
                }
                DependencyState::Pending { why, trouble } if matches!(gate, BeginDecision::Begin) => {
                    gate = BeginDecision::Wait { why, trouble }
                }
                DependencyState::Pending { .. } | DependencyState::Met => {}
            }
        }
        operation.skip_reason.clone().map_or(gate, BeginDecision::Skip)
    }

    fn brings_up(&self, app: AppId, kind: Kind) -> bool {
        let there = u32::try_from(self.staying(app).len()).unwrap_or(u32::MAX);
        match kind {
            Kind::Start | Kind::Restart | Kind::Reload | Kind::Scale(Scale::Up(_)) => true,
            Kind::Stop | Kind::Delete => false,
            Kind::Scale(Scale::To(count)) => count > there,
            // An app keeps one, also if all were deleted before its turn came.
            Kind::Scale(Scale::Down(_)) => there == 0,
        }
    }

    fn named(&self, namespace: &str, name: &str) -> Option<&App> {
        self.apps.values().find(|app| app.spec.name == name && app.spec.namespace == namespace)
    }

    /// How a dependency is, for an operation of this place. One that `renews` waits for whatever else is being done to
    /// it.
    fn dependency_state(
        &self,
        app: Option<&App>,
        name: &str,
        condition: Condition,
        place: u64,
        renews: bool,
    ) -> DependencyState {
        let Some(app) = app else { return DependencyState::Failed("is not known".to_owned()) };
        let met = self.meets(app, condition);
        let before = |other: &&Operation| !other.kind.overtakes() && other.place < Some(place);
        let earlier = app.operations.iter().find(before).filter(|_| renews || !met);
        let awaited = format!("waits for `{name}` {}", condition.awaited());
        match earlier {
            Some(earlier) => {
                let after = || format!("waits for the {} of `{name}`", earlier.kind.verb());
                DependencyState::Pending { why: if met { after() } else { awaited }, trouble: self.trouble_before(app) }
            }
            None if met => DependencyState::Met,
            None => match self.outlook(app, condition) {
                Ok(trouble) => {
                    let in_words = |trouble| format!("`{name}`, on which it depends, {trouble}");
                    DependencyState::Pending { why: awaited, trouble: trouble.map(in_words) }
                }
                Err(how) => DependencyState::Failed(how),
            },
        }
    }

    /// What is in the way of the operation that is next for an app.
    fn trouble_before(&self, app: &App) -> Option<String> {
        let next = app.operations.front().filter(|next| !next.begun)?;
        match self.begin_decision(app.id, next) {
            BeginDecision::Wait { trouble, .. } => trouble,
            BeginDecision::Begin | BeginDecision::Fail(_) | BeginDecision::Skip(_) => None,
        }
    }

    fn meets(&self, app: &App, condition: Condition) -> bool {
        let members: Vec<&Process> = self.members(app.id).filter(|process| process.goal != Goal::Gone).collect();
        let wanted: Vec<&Process> = members.iter().copied().filter(|process| self.stays_up(process)).collect();
        let completed = !members.is_empty() && members.iter().all(|process| process.is_completed());
        let all = |is_so: fn(&Process) -> bool| !wanted.is_empty() && wanted.iter().all(|process| is_so(process));
        match condition {
            Condition::Started => completed || wanted.iter().any(|process| process.was_started()),
            Condition::Ready => completed || all(|process| process.serves() || process.rests()),
            Condition::Healthy => {
                let is_well = |process: &Process| process.serves() && !process.is_unhealthy();
                app.spec.health.is_some()
                    && wanted.iter().all(|process| is_well(process) || process.rests())
                    && !wanted.is_empty()
            }
            Condition::Completed => completed,
        }
    }

    /// Of an app that is not as it should be: what is in its way, if it may still come to it; else, how it ended.
    fn outlook(&self, app: &App, condition: Condition) -> Result<Option<String>, String> {
        if let Some(never) = app.spec.never(condition) {
            return Err(never.to_owned());
        }
        let members: Vec<&Process> = self.members(app.id).filter(|process| process.goal != Goal::Gone).collect();
        let (up, down): (Vec<&Process>, Vec<&Process>) =
            members.into_iter().partition(|process| self.stays_up(process));
        if let Some(errored) = up.iter().find(|process| process.state == State::Errored) {
            return Err(format!("is errored: {}", errored.reason.as_deref().unwrap_or("it was given up")));
        }
        if let Some(failed) = down.iter().find(|process| !process.is_completed())
            && (up.is_empty() || condition == Condition::Completed)
        {
            return Err(how_it_ended(failed));
        }
        match up.is_empty() {
            true => Err(down.first().map_or_else(|| "is not known".to_owned(), |process| how_it_ended(process))),
            false => Ok(up.iter().find_map(|process| trouble(process, condition))),
        }
    }

    /// True if it shall run, and nothing is going to stop it.
    fn stays_up(&self, process: &Process) -> bool {
        let operations = &self.apps[&process.app].operations;
        process.goal == Goal::Up && !operations.iter().any(|operation| operation.wish(process.id) == Some(false))
    }

    /// Records what an operation waits for and publishes it, once.
    fn hold(&mut self, app: AppId, operation: &mut Operation, why: String, effects: &mut Vec<Effect>) {
        if operation.held.as_ref() == Some(&why) {
            return;
        }
        let tell = |process| Effect::Publish { process, kind: EventKind::Held { why: why.clone() } };
        effects.extend(self.about(app, operation).into_iter().map(tell));
        operation.held = Some(why);
    }

    /// A job was reported as started. If an operation waited for its completion and the job failed, its line in the
    /// report becomes the failure.
    fn report_ended_jobs(&mut self, app: AppId, operation: &Operation) {
        let Some(mut wait) = operation.ticket.and_then(|ticket| self.waits.remove(&ticket)) else { return };
        let spec = operation.spec.as_ref().unwrap_or(&self.apps[&app].spec);
        let jobs = spec.depends_on.iter().filter(|(_, condition)| **condition == Condition::Completed);
        let jobs = jobs.filter_map(|(name, _)| self.named(&spec.namespace, name)).map(|job| job.id);
        for process in jobs.flat_map(|job| self.members(job)).filter(|process| !process.is_active()) {
            if process.is_completed() {
                continue;
            }
            for line in wait.report.lines.iter_mut().filter(|line| line.id == process.id.0) {
                if line.verdict == Verdict::Done {
                    line.verdict = Verdict::Failed { reason: how_it_ended(process), old_serves: false };
                }
            }
        }
        self.waits.extend(operation.ticket.map(|ticket| (ticket, wait)));
    }

    fn report_all(&mut self, app: AppId, operation: &Operation, reason: &str) {
        for id in self.about(app, operation) {
            let old_serves = self.processes.get(&id).is_some_and(Process::serves);
            let verdict = Verdict::NotBegun { reason: reason.to_owned(), old_serves };
            self.report(operation.ticket, app, id, operation.kind, verdict);
        }
    }

    /// The processes an operation is about that has not begun; those that are there, if it only adds some.
    fn about(&self, app: AppId, operation: &Operation) -> Vec<ProcessId> {
        if operation.pending.is_empty() { self.staying(app) } else { operation.pending.iter().copied().collect() }
    }

    /// What an operation waited for will not come: it is over, and what does not run is not started.
    fn fail_waiting(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        for id in std::mem::take(&mut operation.pending) {
            self.with_process_if_present(now, id, effects, |process, transition| {
                process.fail_unstarted(transition, reason);
            });
        }
        self.abandon(app, operation);
    }

    /// It is over, and nothing was done.
    fn abandon(&mut self, app: AppId, operation: &mut Operation) {
        if operation.spec.take().is_some() {
            self.touch(RecordKey::Spec(app));
        }
        operation.pending.clear();
        (operation.begun, operation.failed, operation.count, operation.held) = (true, true, None, None);
    }

    /// The apps with something that waits and may now go on, after something happened to this one.
    pub(super) fn waiting_near(&self, app: AppId, spec: &AppSpec) -> Vec<AppId> {
        let waits = |operation: &Operation| operation.held.is_some();
        let near = |other: &&App| {
            let planned = other.operations.iter().filter_map(|operation| operation.spec.as_deref());
            other.id != app
                && other.operations.iter().any(waits)
                && (needs(spec, &other.spec) || planned.chain([&*other.spec]).any(|other| needs(other, spec)))
        };
        self.apps.values().filter(near).map(|other| other.id).collect()
    }
}

/// True if `one` depends on `other`.
fn needs(one: &AppSpec, other: &AppSpec) -> bool {
    let names: &Dependencies = &one.depends_on;
    !names.is_empty() && one.namespace == other.namespace && names.contains_key(&other.name)
}

fn how_it_ended(process: &Process) -> String {
    match (&process.reason, process.is_active()) {
        (Some(reason), false) => reason.clone(),
        (_, true) => "is being stopped".to_owned(),
        (None, false) => "is stopped".to_owned(),
    }
}

/// What keeps a process from what is wanted of it, as far as it is known.
fn trouble(process: &Process, condition: Condition) -> Option<String> {
    let reason = process.reason.as_deref().unwrap_or("its start failed");
    let fault = process.health.fault().unwrap_or("its check fails");
    match condition {
        _ if process.launch_failed => Some(format!("has not come up: {reason}")),
        Condition::Healthy if process.is_unhealthy() => Some(format!("is unhealthy: {fault}")),
        Condition::Started | Condition::Ready | Condition::Healthy | Condition::Completed => None,
    }
}
