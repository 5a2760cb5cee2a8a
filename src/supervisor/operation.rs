//! Verbs that span processes and time. Each app has a queue of operations; each operation belongs to a ticket, or to
//! nobody where the supervisor itself decided on it. A client that hangs up loses the answer, never the operation.
//!
//! Operations run one after another, but for `stop` and `delete`: they begin at once and take their processes out of
//! whatever else was to be done to them. What depends on other apps may be held back: see `order`.

mod queue;
mod reload;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::persist::RecordKey;
use super::{AppId, Effect, Goal, Moment, Process, ProcessId, State, Supervisor, Ticket};
use crate::protocol::{Rollout, Scale, Verdict};
use crate::spec::{AppSpec, ExecMode};
use reload::Transaction;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Start what is down, restart what is up.
    Start,
    /// Stop, then start.
    Restart,
    /// Replace by a ready successor.
    Reload,
    /// Stop and keep.
    Stop,
    /// Stop and forget.
    Delete,
    /// Add or remove processes.
    Scale(Scale),
}

impl Kind {
    /// The verb in reports.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Restart => "restart",
            Kind::Reload => "reload",
            Kind::Stop => "stop",
            Kind::Delete => "delete",
            Kind::Scale(_) => "scale",
        }
    }

    pub(super) fn overtakes(self) -> bool {
        matches!(self, Kind::Stop | Kind::Delete)
    }
}

/// One verb on some processes of one app. Its record leaves out the ticket, whose client is gone when it is read, and
/// the specs, which stand with the app's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Operation {
    #[serde(skip)]
    pub(super) ticket: Option<Ticket>,
    pub(super) kind: Kind,
    /// Its place among all that was asked for: it waits for nothing of a later one. None if nobody asked for it: it waits
    /// for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<u64>,
    /// The first place of what was asked for by the same request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<u64>,
    /// Dependencies that it does not wait for, and does not start.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) without: BTreeSet<String>,
    /// Why it does not begin although its dependencies are met; set when the reload of one of them failed.
    #[serde(default, rename = "spared", skip_serializing_if = "Option::is_none")]
    pub(super) skip_reason: Option<String>,
    /// It did not come to what was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) failed: bool,
    /// What it was last told to wait for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<String>,
    /// Not touched yet, in order.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) pending: VecDeque<ProcessId>,
    /// Being worked on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) active: Vec<ProcessId>,
    /// How many may be active at once.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub(super) parallel: usize,
    /// The spec that takes effect when it begins.
    #[serde(skip)]
    pub(super) spec: Option<Arc<AppSpec>>,
    /// The spec before that, to return to if a reload fails.
    #[serde(skip)]
    pub(super) previous: Option<Arc<AppSpec>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) begun: bool,
    /// How many processes the app is to have when all this is done; of those that are too many none is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u32>,
    /// How a reload is to go, and how far it is.
    #[serde(default, skip_serializing_if = "Transaction::is_default")]
    pub(super) transaction: Transaction,
}

fn all() -> usize {
    usize::MAX
}

fn is_all(parallel: &usize) -> bool {
    *parallel == all()
}

impl Operation {
    /// An operation that has not begun.
    #[must_use]
    pub fn new(ticket: Option<Ticket>, kind: Kind, members: Vec<ProcessId>, parallel: usize) -> Operation {
        let pending = VecDeque::from(members);
        let parallel = parallel.max(1);
        Operation {
            ticket,
            kind,
            place: None,
            request: None,
            without: BTreeSet::new(),
            skip_reason: None,
            failed: false,
            held: None,
            pending,
            active: vec![],
            parallel,
            spec: None,
            previous: None,
            begun: false,
            count: None,
            transaction: Transaction::default(),
        }
    }

    /// A reload that goes as asked.
    #[must_use]
    pub fn reload(ticket: Option<Ticket>, members: Vec<ProcessId>, rollout: &Rollout) -> Operation {
        let operation = Operation::new(ticket, Kind::Reload, members, rollout.parallel as usize);
        Operation { transaction: Transaction::new(rollout), ..operation }
    }

    /// The same, and in the end the app has so many processes.
    #[must_use]
    pub fn with_count(self, count: u32) -> Operation {
        Operation { count: Some(count), ..self }
    }

    /// The same with a spec that takes effect when it begins.
    #[must_use]
    pub fn with_spec(self, spec: Option<AppSpec>) -> Operation {
        Operation { spec: spec.map(Arc::new), ..self }
    }

    /// True if it has or will have to do with the process.
    pub(super) fn concerns(&self, id: ProcessId) -> bool {
        self.pending.contains(&id) || self.active.contains(&id) || self.transaction.watches(id)
    }

    /// True if it has specs to put into effect, or to return to.
    pub(super) fn has_specs(&self) -> bool {
        self.spec.is_some() || self.previous.is_some()
    }

    /// Whether it will have the process run or not, if it has not come to it yet.
    #[must_use]
    pub fn wish(&self, id: ProcessId) -> Option<bool> {
        self.pending.contains(&id).then_some(!self.kind.overtakes())
    }

    /// True if the count of processes will be another when it is over.
    pub(super) fn changes_count(&self) -> bool {
        self.count.is_some() || (matches!(self.kind, Kind::Scale(_)) && !self.begun)
    }

    /// True if it is being worked on and not one of those that overtake.
    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.begun && !self.is_over() && !self.kind.overtakes()
    }

    fn is_over(&self) -> bool {
        let idle = self.pending.is_empty() && self.active.is_empty() && !self.transaction.is_watching();
        self.begun && idle && self.count.is_none()
    }

    /// When it has something to do of its own.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.transaction.deadline()
    }

    /// The next process to be worked on, if one may be now.
    fn next(&mut self) -> Option<ProcessId> {
        if self.active.len() >= self.parallel || !self.transaction.may_go_on() {
            return None;
        }
        self.pending.pop_front()
    }
}

impl Supervisor {
    fn carry_on(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) {
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
                // One that was told to go for good, and that not even SIGKILL ends, does not come back.
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
        // What nobody asked for is no new release.
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
    pub(super) fn set_off(&mut self, now: Moment, id: ProcessId, operation: &Operation, effects: &mut Vec<Effect>) {
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

    /// False if the operation makes a cluster of an app that was none, or the reverse: the two cannot serve side by side.
    fn keeps_mode(&self, id: ProcessId, operation: &Operation) -> bool {
        let mode = self.apps[&self.processes[&id].app].spec.mode;
        operation.transaction.returns_to_its_mode() && operation.previous.as_ref().is_none_or(|old| old.mode == mode)
    }

    /// True if another process of the app goes on serving, so that one that leaves has somebody to leave its clients to.
    fn somebody_serves(&self, app: AppId, counts: impl Fn(ProcessId) -> bool) -> bool {
        self.members(app).any(|process| counts(process.id) && process.goal == Goal::Up && process.serves())
    }

    /// Takes note of the active processes that came to an end of their part, good or bad. True if that gave the operation
    /// another turn.
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

/// What has become of one process under a verb; `None` while that is open.
fn outcome(process: Option<&Process>, kind: Kind) -> Option<Verdict> {
    let Some(process) = process else { return Some(Verdict::Done) };
    if process.is_stuck() {
        let reason = "not even SIGKILL ends it at present: the kernel keeps it waiting, for a disk or a network perhaps, \
                      and it is gone when that is over";
        return Some(Verdict::Failed { reason: reason.to_owned(), old_serves: false });
    }
    match kind {
        Kind::Stop => (process.is_empty() && !process.is_active()).then_some(Verdict::Done),
        Kind::Delete => None,
        Kind::Scale(_) if process.goal == Goal::Gone => None,
        Kind::Start | Kind::Restart | Kind::Scale(_) => launched(process),
        Kind::Reload => match launched(process) {
            Some(Verdict::Done) if !process.retiring.is_empty() => None,
            verdict => verdict,
        },
    }
}

fn launched(process: &Process) -> Option<Verdict> {
    let failed = |old_serves| {
        let reason = process.reason.clone().unwrap_or_else(|| "it did not start".to_owned());
        Some(Verdict::Failed { reason, old_serves })
    };
    match &process.state {
        State::Online(_) if process.launch_failed => failed(true),
        State::Online(_) => Some(Verdict::Done),
        State::Launching { .. } if process.launch_failed => failed(false),
        State::Launching { .. } | State::Canary { .. } | State::Stopping(_) => None,
        State::Idle => Some(Verdict::Done),
        State::Waiting { .. } | State::Errored => failed(false),
        State::Stopped if process.goal == Goal::Down && !process.launch_failed => Some(Verdict::Done),
        State::Stopped => failed(false),
    }
}
