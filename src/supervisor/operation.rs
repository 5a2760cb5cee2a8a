//! Verbs that span processes and time. Each app has a queue of operations; each operation belongs to a ticket, or to
//! nobody where the supervisor itself decided on it. A client that hangs up loses the answer, never the operation.
//!
//! Operations run one after another, but for `stop` and `delete`: they begin at once and take their processes out of
//! whatever else was to be done to them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::persist::RecordKey;
use super::{AppId, Effect, Goal, Moment, Process, ProcessId, State, Supervisor, Ticket};
use crate::protocol::{ReportLine, Scale, Verdict};
use crate::spec::AppSpec;

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

    fn overtakes(self) -> bool {
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
    /// Not touched yet, in order.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pending: VecDeque<ProcessId>,
    /// Being worked on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    active: Vec<ProcessId>,
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
    begun: bool,
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
        Operation { ticket, kind, pending, active: vec![], parallel, spec: None, previous: None, begun: false }
    }

    /// The same with a spec that takes effect when it begins.
    #[must_use]
    pub fn with_spec(self, spec: Option<AppSpec>) -> Operation {
        Operation { spec: spec.map(Arc::new), ..self }
    }

    /// True if it has or will have to do with the process.
    pub(super) fn concerns(&self, id: ProcessId) -> bool {
        self.pending.contains(&id) || self.active.contains(&id)
    }

    /// True if it has specs to put into effect, or to return to.
    pub(super) fn has_specs(&self) -> bool {
        self.spec.is_some() || self.previous.is_some()
    }

    /// True if it will start the process and has not come to it yet.
    #[must_use]
    pub fn will_start(&self, id: ProcessId) -> bool {
        !self.kind.overtakes() && self.pending.contains(&id)
    }

    /// True if the count of processes will be another when it is over.
    pub(super) fn changes_count(&self) -> bool {
        matches!(self.kind, Kind::Scale(_)) && !self.begun
    }

    /// True if it is being worked on and not one of those that overtake.
    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.begun && !self.is_over() && !self.kind.overtakes()
    }

    fn is_over(&self) -> bool {
        self.begun && self.pending.is_empty() && self.active.is_empty()
    }
}

impl Supervisor {
    /// Puts an operation into its app's queue and lets it begin if it may.
    pub(super) fn enqueue(&mut self, now: Moment, app: AppId, operation: Operation, effects: &mut Vec<Effect>) {
        if operation.kind.overtakes() {
            self.supersede(app, &operation);
        }
        if operation.has_specs() {
            self.touch(RecordKey::Spec(app));
        }
        let queue = &mut self.apps.get_mut(&app).expect("operations are made for apps that exist").operations;
        queue.push_back(operation);
        self.advance(now, app, effects);
    }

    /// Takes the processes of `newer` out of every operation of the app. What has not begun and has nothing left to do
    /// never begins, and neither does a scale that waits while the whole app is taken down.
    fn supersede(&mut self, app: AppId, newer: &Operation) {
        let whole = self.staying(app).iter().all(|id| newer.concerns(*id));
        let Some(entry) = self.apps.get_mut(&app) else { return };
        let mut lines = Vec::new();
        for operation in &mut entry.operations {
            let (kind, ticket) = (operation.kind, operation.ticket);
            let mut taken = |id: &ProcessId| {
                let stays = !newer.pending.contains(id) || (kind == Kind::Delete && newer.kind == Kind::Stop);
                if !stays {
                    let by = newer.kind.verb().to_owned();
                    let verdict = if kind == newer.kind { None } else { Some(Verdict::Superseded { by }) };
                    lines.extend(verdict.map(|verdict| (ticket, *id, kind, verdict)));
                }
                stays || kind == newer.kind
            };
            operation.pending.retain(&mut taken);
            operation.active.retain(&mut taken);
            let waits = matches!(kind, Kind::Scale(_)) && !operation.begun;
            if waits && whole {
                let by = newer.kind.verb();
                let never = |id: &ProcessId| (ticket, *id, kind, Verdict::Superseded { by: by.to_owned() });
                lines.extend(newer.pending.iter().map(never));
            }
            operation.begun |= operation.pending.is_empty() && (whole || !waits);
        }
        for (ticket, id, kind, verdict) in lines {
            self.report(ticket, app, id, kind, verdict);
        }
    }

    /// Carries the app's operations as far as they go, and removes the app when its last process is gone.
    pub(super) fn advance(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        let mut queue = match self.apps.get_mut(&app) {
            Some(entry) => std::mem::take(&mut entry.operations),
            None => return,
        };
        if !queue.is_empty() {
            self.touch(RecordKey::Work(app));
        }
        let mut at = 0;
        while at < queue.len() {
            let may_run = at == 0 || queue[at].kind.overtakes();
            if may_run {
                self.carry_on(now, app, &mut queue[at], effects);
            }
            if may_run && queue[at].is_over() {
                let finished = queue.remove(at).expect("the index is within the queue");
                if finished.has_specs() {
                    self.touch(RecordKey::Spec(app));
                }
                self.close(finished.ticket, effects);
                at = 0;
            } else {
                at += 1;
            }
        }
        let entry = self.apps.get_mut(&app).expect("nothing removes an app while its queue is out");
        entry.operations = queue;
        if entry.operations.is_empty() && self.members(app).next().is_none() {
            self.apps.remove(&app);
            self.touch(RecordKey::Spec(app));
            effects.push(Effect::AppRemoved { app });
        }
    }

    fn carry_on(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) {
        if !operation.begun {
            self.begin(now, app, operation, effects);
        }
        loop {
            self.collect(app, operation);
            if operation.active.len() >= operation.parallel {
                return;
            }
            let Some(id) = operation.pending.pop_front() else { return };
            if self.processes.contains_key(&id) {
                operation.active.push(id);
                self.set_off(now, id, operation, effects);
            }
        }
    }

    fn begin(&mut self, now: Moment, app: AppId, operation: &mut Operation, effects: &mut Vec<Effect>) {
        operation.begun = true;
        if let Some(spec) = operation.spec.take() {
            let entry = self.apps.get_mut(&app).expect("its queue is being worked on");
            operation.previous = Some(std::mem::replace(&mut entry.spec, spec));
            self.touch(RecordKey::Spec(app));
        }
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
            self.direct(now, *id, effects, |process, scene| process.stop(scene, Goal::Gone, drain));
        }
    }

    /// Begins the verb on one process.
    fn set_off(&mut self, now: Moment, id: ProcessId, operation: &Operation, effects: &mut Vec<Effect>) {
        let goal = match operation.kind {
            Kind::Stop => Goal::Down,
            Kind::Delete => Goal::Gone,
            Kind::Reload if self.keeps_mode(id, operation) => {
                self.direct(now, id, effects, Process::reload);
                return;
            }
            Kind::Reload | Kind::Start | Kind::Restart | Kind::Scale(_) => {
                self.direct(now, id, effects, Process::restart);
                return;
            }
        };
        let app = self.processes[&id].app;
        let drain = self.somebody_serves(app, |other| !operation.concerns(other));
        self.direct(now, id, effects, |process, scene| process.stop(scene, goal, drain));
    }

    /// False if the operation makes a cluster of an app that was none, or the reverse: the two cannot serve side by side.
    fn keeps_mode(&self, id: ProcessId, operation: &Operation) -> bool {
        let mode = self.apps[&self.processes[&id].app].spec.mode;
        operation.previous.as_ref().is_none_or(|previous| previous.mode == mode)
    }

    /// True if another process of the app goes on serving, so that one that leaves has somebody to leave its clients to.
    fn somebody_serves(&self, app: AppId, counts: impl Fn(ProcessId) -> bool) -> bool {
        self.members(app).any(|process| counts(process.id) && process.goal == Goal::Up && process.serves())
    }

    /// Takes note of the active processes that came to an end of their part, good or bad.
    fn collect(&mut self, app: AppId, operation: &mut Operation) {
        let mut still = Vec::new();
        for id in std::mem::take(&mut operation.active) {
            match outcome(self.processes.get(&id), operation.kind) {
                None => still.push(id),
                Some(verdict) => {
                    if operation.kind == Kind::Reload && verdict != Verdict::Done {
                        self.give_up_reload(app, operation);
                    }
                    self.report(operation.ticket, app, id, operation.kind, verdict);
                }
            }
        }
        operation.active = still;
    }

    /// A successor failed: the rest is left as it is, and what restarts from now on restarts as it was.
    fn give_up_reload(&mut self, app: AppId, operation: &mut Operation) {
        let untouched = operation.pending.len();
        operation.pending.clear();
        if let (Some(previous), Some(entry)) = (operation.previous.take(), self.apps.get_mut(&app)) {
            entry.spec = previous;
            self.touch(RecordKey::Spec(app));
        }
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

    fn report(&mut self, ticket: Option<Ticket>, app: AppId, id: ProcessId, kind: Kind, verdict: Verdict) {
        let Some(wait) = ticket.and_then(|ticket| self.waits.get_mut(&ticket)) else { return };
        let name = self.apps.get(&app).map(|app| app.spec.name.clone()).unwrap_or_default();
        wait.report.lines.push(ReportLine { id: id.0, name, verb: kind.verb().to_owned(), verdict });
    }

    /// One operation of the ticket is over; with the last, the ticket is answered.
    fn close(&mut self, ticket: Option<Ticket>, effects: &mut Vec<Effect>) {
        let Some(ticket) = ticket else { return };
        let Some(wait) = self.waits.get_mut(&ticket) else { return };
        wait.open -= 1;
        if wait.open == 0
            && let Some(wait) = self.waits.remove(&ticket)
        {
            effects.push(Effect::Settle { ticket, answer: Ok(wait.report) });
        }
    }
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
        State::Launching { .. } | State::Stopping(_) => None,
        State::Idle => Some(Verdict::Done),
        State::Waiting { .. } | State::Errored => failed(false),
        State::Stopped if process.goal == Goal::Down && !process.launch_failed => Some(Verdict::Done),
        State::Stopped => failed(false),
    }
}
