//! How an operation begins, goes from process to process, and ends.

use std::sync::Arc;
use std::time::Duration;

use super::kind::Kind;
use super::outcome::outcome;
use super::state::Operation;
use crate::protocol::Scale;
use crate::spec::{AppSpec, ExecMode};
use crate::supervisor::id::{AppId, ProcessId};
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;
use crate::supervisor::persist::RecordKey;
use crate::supervisor::process::{Goal, Process};
use crate::supervisor::state::Supervisor;

impl Supervisor {
    pub(super) fn carry_on(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) {
        let needed = self.is_needed(app, operation);
        if !operation.begun {
            if !self.may_begin(now, app, operation, effects) {
                return;
            }
            self.begin(now, app, operation, effects);
            if needed {
                self.stop_idlers(now, app, operation, effects);
            }
        }
        loop {
            let turned = self.collect(now, app, operation, effects) || self.judge(now, app, operation, effects);
            if turned {
                continue;
            }
            if let Some(id) = if needed { None } else { operation.next() } {
                // A process that is being deleted and that not even SIGKILL ends is not started again.
                let stays = |process: &Process| process.goal != Goal::Gone || operation.kind.overtakes();
                if self.processes.get(&id).is_some_and(stays) {
                    operation.active.push(id);
                    self.set_off(now, id, operation, effects);
                }
                continue;
            }
            let idle = operation.pending.is_empty() && operation.active.is_empty();
            let Some(count) = operation.count.take_if(|_| idle && !operation.transaction.is_watching()) else { return };
            operation.kind = Kind::Scale(Scale::To(count));
            self.rescale(now, app, Scale::To(count), operation, effects);
        }
    }

    fn begin(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) {
        operation.begun = true;
        if let Some(count) = operation.count {
            let stay: Vec<ProcessId> = self.staying(app).into_iter().take(count as usize).collect();
            operation.pending.retain(|id| stay.contains(id));
        }
        if let Some(spec) = operation.spec.take() {
            let entry = self.apps.get_mut(&app).expect("its queue is being worked on");
            operation.previous = Some(std::mem::replace(&mut entry.spec, spec));
            self.touch(RecordKey::Spec(app));
        }
        // An operation of the supervisor itself brings no new release.
        let asked = operation.kind == Kind::Reload && operation.place.is_some();
        let settling = settling(&self.apps[&app].spec).filter(|_| asked);
        operation.transaction.begin(now, self.last_run, operation.pending.len(), settling);
        if let Kind::Scale(scale) = operation.kind {
            self.rescale(now, app, scale, operation, effects);
        }
    }

    /// Works out which processes come and which go: the newest go first.
    fn rescale(&mut self, now: Moment, app: AppId, scale: Scale, operation: &mut Operation, effects: &mut Vec<Effect>) {
        let present = self.staying(app);
        let count = u32::try_from(present.len()).unwrap_or(u32::MAX);
        let wanted = match scale {
            Scale::To(wanted) => wanted,
            Scale::Up(more) => count.saturating_add(more),
            Scale::Down(fewer) => count.saturating_sub(fewer),
        }
        .max(1);
        let entry = self.apps.get_mut(&app).expect("its queue is being worked on");
        Arc::make_mut(&mut entry.spec).instances = wanted;
        self.touch(RecordKey::Spec(app));
        for _ in count..wanted {
            let id = self.add_process(now, app, None, effects);
            operation.pending.push_back(id);
        }
        for id in present.iter().skip(wanted as usize).rev() {
            let drain = self.somebody_serves(app, |other| !present[wanted as usize..].contains(&other));
            operation.active.push(*id);
            self.with_process(now, *id, effects, |process, transition| process.stop(transition, Goal::Gone, drain));
        }
    }

    /// Begins the verb on one process.
    pub(crate) fn set_off(&mut self, now: Moment, id: ProcessId, operation: &Operation, effects: &mut Vec<Effect>) {
        let goal = match operation.kind {
            Kind::Stop => Goal::Down,
            Kind::Delete => Goal::Gone,
            Kind::Reload if self.keeps_mode(id, operation) => {
                let promotion = operation.transaction.promotion();
                self.with_process(now, id, effects, |process, transition| process.reload(transition, promotion));
                return;
            }
            Kind::Reload | Kind::Start | Kind::Restart | Kind::Scale(_) => {
                self.with_process(now, id, effects, Process::restart);
                return;
            }
        };
        let app = self.processes[&id].app;
        let drain = self.somebody_serves(app, |other| !operation.concerns(other));
        self.with_process(now, id, effects, |process, transition| process.stop(transition, goal, drain));
    }

    /// False if the operation makes a cluster of an app that was none, or the reverse: the two cannot serve side by
    /// side.
    fn keeps_mode(&self, id: ProcessId, operation: &Operation) -> bool {
        let mode = self.apps[&self.processes[&id].app].spec.mode;
        operation.transaction.returns_to_its_mode() && operation.previous.as_ref().is_none_or(|old| old.mode == mode)
    }

    /// True if another process of the app goes on serving, so that a drain makes sense: new clients have a worker.
    fn somebody_serves(&self, app: AppId, counts: impl Fn(ProcessId) -> bool) -> bool {
        self.members(app).any(|process| counts(process.id) && process.goal == Goal::Up && process.serves())
    }

    /// Takes note of the active processes that came to an end of their part, good or bad. True if that gave the
    /// operation another turn.
    fn collect(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) -> bool {
        if operation.kind == Kind::Reload {
            return self.collect_reloaded(now, app, operation, effects);
        }
        for id in std::mem::take(&mut operation.active) {
            match outcome(self.processes.get(&id), operation.kind) {
                None => operation.active.push(id),
                Some(verdict) => self.report(operation.ticket, app, id, operation.kind, verdict),
            }
        }
        false
    }
}

/// How long a process of this app has to run before it is trusted, if it is taken for ready as soon as it is there.
fn settling(spec: &AppSpec) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(5);
    let proves = spec.mode == ExecMode::Cluster || spec.readiness.wait_ready || spec.health.is_some();
    (!proves).then(|| spec.restart.min_uptime.min(LONGEST))
}
