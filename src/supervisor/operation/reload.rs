//! A reload as a transaction: all processes come to the new release, or all are back on the one before.
//!
//! What tells the releases apart is the number of the run: runs begun after the operation began are of the new one.
//! A canary's predecessor serves on beside it until the watch is over, so that taking it back costs nothing, also where
//! only the files of the app have changed and the previous release could not be started again.

mod stderr_counts;
#[cfg(test)]
mod tests;
pub(super) mod transaction;

use super::kind::Kind;
use super::outcome::outcome;
use super::state::Operation;
use crate::protocol::{EventKind, Run, Verdict};
use crate::spec::OnReloadFailure;
use crate::supervisor::id::{AppId, ProcessId};
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;
use crate::supervisor::persist::RecordKey;
use crate::supervisor::process::{Goal, Process, State};
use crate::supervisor::state::Supervisor;
use transaction::Phase;

impl Supervisor {
    /// Takes note of the processes that were replaced, or could not be. True if one could not.
    pub(super) fn collect_reloaded(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut failed = None;
        for id in std::mem::take(&mut operation.active) {
            if !operation.transaction.tries() {
                // It was set off as a canary and became ready later.
                self.with_process_if_present(now, id, effects, Process::promote);
            }
            let process = self.processes.get(&id);
            if let (Phase::Canary { watched, .. }, Some(run)) =
                (&mut operation.transaction.phase, process.and_then(ready_run))
            {
                watched.push((id, run));
                continue;
            }
            let Some(verdict) = outcome(process, Kind::Reload) else {
                operation.active.push(id);
                continue;
            };
            if let Verdict::Failed { reason, .. } = &verdict {
                failed.get_or_insert_with(|| reason.clone());
            }
            self.note_replaced(now, id, verdict == Verdict::Done);
            self.report_reloaded(app, operation, id, verdict, effects);
        }
        if let Some(reason) = &failed {
            self.give_up(now, app, operation, reason, effects);
        }
        failed.is_some()
    }

    fn note_replaced(&mut self, now: Moment, id: ProcessId, replaced: bool) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.replace_backoff.note(replaced, now);
            self.touch(RecordKey::Process(id));
        }
    }

    /// Looks at the canaries: one that failed ends the reload, and when their time is over the rest follows. True if
    /// either is so.
    pub(super) fn judge(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let pending = u32::try_from(operation.pending.len()).unwrap_or(u32::MAX);
        let (watch, is_canary) = (operation.transaction.watch(), operation.transaction.canary.is_some());
        let is_new = |run: Run| run.0 > operation.transaction.last_run;
        let Phase::Canary { left, watched, until, errors } = &mut operation.transaction.phase else { return false };
        *left = (*left).min(pending);
        let faults = |(id, run): &(ProcessId, Run)| {
            let fault = self.processes.get(id)?.fault_of(*run).or_else(|| errors.fault(*run, is_new))?;
            Some((*id, fault))
        };
        if let Some((id, reason)) = watched.iter().find_map(faults) {
            watched.retain(|(other, _)| *other != id);
            self.with_process_if_present(now, id, effects, Process::roll_back_run);
            let old_serves = self.processes.get(&id).is_some_and(Process::serves);
            let verdict = Verdict::Failed { reason: reason.clone(), old_serves };
            self.note_replaced(now, id, false);
            self.report_reloaded(app, operation, id, verdict, effects);
            self.give_up(now, app, operation, &reason, effects);
            return true;
        }
        if *left > 0 || !operation.active.is_empty() {
            return false;
        }
        if until.is_none() && !watched.is_empty() {
            *until = Some(now.after(watch));
            let duration_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
            let tell =
                |(id, _): &(ProcessId, Run)| Effect::Publish { process: *id, kind: EventKind::Canary { duration_ms } };
            effects.extend(watched.iter().filter(|_| is_canary).map(tell));
        }
        let over = until.is_none_or(|until| until <= now);
        if over {
            self.keep_canaries(now, operation, effects);
        }
        over
    }

    /// The canaries stay; the rest may follow.
    fn keep_canaries(&mut self, now: Moment, operation: &mut Operation, effects: &mut Vec<Effect>) {
        for (id, _) in operation.transaction.watched().to_vec() {
            self.with_process(now, id, effects, Process::promote);
            operation.active.push(id);
        }
        operation.transaction.phase = Phase::Rolling;
    }

    /// A successor failed.
    fn give_up(&mut self, now: Moment, app: AppId, operation: &mut Operation, reason: &str, effects: &mut Vec<Effect>) {
        operation.failed = true;
        if matches!(operation.transaction.phase, Phase::RollingBack { .. }) {
            return;
        }
        let policy = match operation.transaction.force {
            true => OnReloadFailure::Continue,
            false => self.apps[&app].spec.on_reload_failure,
        };
        match policy {
            OnReloadFailure::Continue => self.keep_canaries(now, operation, effects),
            OnReloadFailure::Pause => {
                self.leave_rest(operation);
                self.keep_canaries(now, operation, effects);
            }
            OnReloadFailure::Rollback => {
                self.leave_rest(operation);
                self.roll_back(now, app, operation, reason, effects);
            }
        }
    }

    /// What was not touched yet will not be.
    fn leave_rest(&mut self, operation: &mut Operation) {
        let untouched = operation.pending.len();
        operation.pending.clear();
        operation.count = None;
        if let Some(wait) = operation.ticket.and_then(|ticket| self.waits.get_mut(&ticket))
            && untouched > 0
        {
            let rest = match untouched {
                1 => "1 other process was".to_owned(),
                more => format!("{more} other processes were"),
            };
            wait.report.notes.push(format!("the reload stopped there: {rest} not touched"));
        }
    }

    /// Brings the app back to the previous release: successors that have not taken over leave, and where the spec was
    /// another, those that have are replaced once more.
    fn roll_back(
        &mut self,
        now: Moment,
        app: AppId,
        operation: &mut Operation,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let mut in_flight = std::mem::take(&mut operation.active);
        in_flight.extend(operation.transaction.watched().iter().map(|(id, _)| *id));
        for id in &in_flight {
            self.with_process(now, *id, effects, Process::roll_back_run);
        }
        operation.transaction.phase = self.restore_spec(app, operation);
        for id in in_flight.into_iter().filter(|id| !operation.pending.contains(id)) {
            match self.processes.get(&id).and_then(ready_run) {
                Some(run) if !operation.transaction.is_new(run) => {
                    self.report_reloaded(app, operation, id, Verdict::RolledBack, effects);
                }
                _ => operation.active.push(id),
            }
        }
        let kind = || EventKind::RollingBack { reason: reason.to_owned() };
        effects.extend(operation.pending.iter().map(|id| Effect::Publish { process: *id, kind: kind() }));
    }

    /// Puts the spec before into effect again and queues the processes of the failed release for replacement.
    fn restore_spec(&mut self, app: AppId, operation: &mut Operation) -> Phase {
        let Some(previous) = operation.previous.take() else {
            return Phase::RollingBack { same_mode: true, changed: false };
        };
        let entry = self.apps.get_mut(&app).expect("its queue is being worked on");
        let failed = std::mem::replace(&mut entry.spec, previous);
        let (same_mode, changed) = (failed.mode == entry.spec.mode, failed != entry.spec);
        self.touch(RecordKey::Spec(app));
        if changed {
            let is_new = |process: &&Process| match process.current_run() {
                Some(run) => operation.transaction.is_new(run),
                None => process.started >= operation.transaction.since,
            };
            let back = self.members(app).filter(|process| process.goal == Goal::Up).filter(is_new);
            operation.pending = back.map(|process| process.id).collect();
        }
        Phase::RollingBack { same_mode, changed }
    }

    /// Reports what came of one process to the client, and publishes it: the history has to say why a release does not
    /// serve, also to a reader who did not see the answer.
    pub(super) fn report_reloaded(
        &mut self,
        app: AppId,
        operation: &Operation,
        id: ProcessId,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        let verdict = match verdict {
            Verdict::Done if operation.transaction.restores() => Verdict::RolledBack,
            Verdict::Failed { reason, old_serves } if operation.transaction.restores() => {
                Verdict::Failed { reason: format!("not back on the previous release: {reason}"), old_serves }
            }
            verdict => verdict,
        };
        effects.extend(event_of(&verdict).map(|kind| Effect::Publish { process: id, kind }));
        self.report(operation.ticket, app, id, Kind::Reload, verdict);
    }

    /// The runs whose lines on standard error count at present: canaries that are watched, and the workers beside them.
    pub fn judged_by_errors(&self) -> impl Iterator<Item = Run> + '_ {
        let watches = |operation: &Operation| operation.transaction.judges();
        let apps = self.apps.values().filter(move |app| app.operations.iter().any(watches));
        apps.flat_map(|app| self.members(app.id)).flat_map(Process::staying)
    }

    /// A run wrote so many more lines to standard error.
    pub(crate) fn stderr_lines(&mut self, now: Moment, run: Run, lines: u32, effects: &mut Vec<Effect>) {
        let Some(app) = self.process_of(run).map(|process| process.app) else { return };
        let Some(entry) = self.apps.get_mut(&app) else { return };
        for operation in &mut entry.operations {
            if let Phase::Canary { until: Some(_), errors, .. } = &mut operation.transaction.phase {
                errors.add(run, lines);
            }
        }
        self.advance(now, app, effects);
    }
}

/// The event for what came of one process; none for a replacement, which shows by its runs.
fn event_of(verdict: &Verdict) -> Option<EventKind> {
    match verdict {
        Verdict::Failed { reason, old_serves } => {
            Some(EventKind::NotReplaced { reason: reason.clone(), old_serves: *old_serves })
        }
        Verdict::RolledBack => Some(EventKind::TakenBack),
        Verdict::Done | Verdict::NotBegun { .. } | Verdict::Superseded { .. } | Verdict::Planned { .. } => None,
    }
}

/// The run that is ready, if the process came to one without a failure.
fn ready_run(process: &Process) -> Option<Run> {
    match process.state {
        State::Canary { new, .. } => Some(new.run),
        State::Online(serving) if !process.launch_failed => Some(serving.run),
        State::Stopped
        | State::Launching { .. }
        | State::Online(_)
        | State::Stopping(_)
        | State::Waiting { .. }
        | State::Idle
        | State::Errored => None,
    }
}
