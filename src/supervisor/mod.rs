//! The decisions of the daemon. PURE: no clock, no pids, no I/O, nothing to await.
//!
//! [`Supervisor::handle`] takes the time and an [`Input`] and returns the [`Effect`]s to carry out;
//! [`Supervisor::next_deadline`] says when to come back with [`Input::Tick`]. Timeouts go in as `now` and come out as
//! that one deadline, so there is no timer to cancel and none to forget.
//!
//! - [`process`]: one process, goal × state.
//! - [`restart`]: after an exit, again, later, or give up.
//! - [`operation`]: verbs that span processes and time, one queue per app, and the tickets they answer.
//! - [`registry`]: apps, ids, instance numbers, what is written down.
//! - `requests`: from requests to operations.
//! - `order`: which app is started, reloaded and stopped before which.
//! - `idle`: which processes stop while nobody connects, and which start again.
//! - `rotation`: which ready runs get no new connections.
//! - [`persist`]: all of it as records, written as it changes, read by the next daemon.
//!
//! Invariants, checked after every input of the simulation:
//! - every run spawned is answered for by exactly one process until its tree is gone;
//! - a goal other than `Up` launches nothing; a handled tick leaves no deadline in the past;
//! - an idle app starts on demand, one process at a time, and no restart is counted; a stop keeps it down;
//! - the listeners of an app are open while one of its processes runs or is idle, and closed once the whole app is down;
//! - every ready run is in rotation, except an unhealthy one while another of its app is healthy;
//! - a reload by itself never leaves fewer ready processes than there were;
//! - operations on one app queue, but `stop` and `delete` overtake; operations on different apps wait for each other only
//!   where one app depends on the other, and never in a circle; every ticket is answered exactly once;
//! - a supervisor read back from its records does what the one that wrote them would have done.

#[cfg(test)]
mod harness;
mod idle;
pub mod input;
pub mod operation;
mod order;
pub mod persist;
mod preview;
pub mod process;
pub mod registry;
mod requests;
pub mod restart;
mod rotation;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet};

pub use input::{AppId, Effect, Fault, Input, Moment, ProcessId, Proof, Request, Ticket};
pub use operation::{Kind, Operation};
pub use persist::{RecordKey, Unreadable};
pub use process::{Goal, Process, Serving, State, StopStage, StoppingRun};
pub use registry::{App, SavedApp, SavedProcess, Snapshot};

use crate::protocol::{EventKind, Report, Rollout, Run};
use crate::spec::health::OnFail;
use process::Transition;

/// All supervision state.
#[derive(Debug, Default)]
pub struct Supervisor {
    apps: BTreeMap<AppId, App>,
    processes: BTreeMap<ProcessId, Process>,
    /// The process of each run that may be alive.
    runs: BTreeMap<Run, ProcessId>,
    /// Tickets whose answer waits for operations.
    waits: BTreeMap<Ticket, Wait>,
    last_run: u64,
    next_app: u32,
    next_process: u32,
    closing: bool,
    /// The runs out of rotation, as the last effects said; see [`Supervisor::is_ejected`].
    last_ejected: BTreeSet<Run>,
    /// Records that are not what was last handed out.
    dirty: BTreeSet<RecordKey>,
}

/// A ticket that waits.
#[derive(Debug, Default)]
struct Wait {
    /// Operations not finished yet.
    open: usize,
    /// What came of it so far.
    report: Report,
}

impl Supervisor {
    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Request { ticket, ask } => self.ask(now, ticket, ask, &mut effects),
            Input::Spawned { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.spawned(transition, run));
            }
            Input::SpawnFailed { run, error, permanent } => {
                self.with_run(now, run, &mut effects, |process, transition| {
                    process.spawn_failed(transition, run, &error, permanent);
                });
            }
            Input::Listening { run, address } => {
                self.with_run(now, run, &mut effects, |process, transition| process.listens(transition, run, address));
            }
            Input::Ready { run, proof } => {
                self.with_run(now, run, &mut effects, |process, transition| process.ready(transition, run, proof));
            }
            Input::ListenFailed { run, why } => {
                self.with_run(now, run, &mut effects, |process, _| process.listen_failed(run, why));
            }
            Input::Drained { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.drained(transition, run));
            }
            Input::Exited { run, exit, survivors } => self.with_run(now, run, &mut effects, |process, transition| {
                process.exited(transition, run, exit, survivors);
            }),
            Input::TreeExited { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.tree_exited(transition, run));
            }
            Input::Delayed { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.delayed(transition, run));
            }
            Input::Checked { run, fault } => self.checked(now, run, fault, &mut effects),
            Input::Sampled { run, memory } => self.sampled(now, run, memory, &mut effects),
            Input::StderrLines { run, lines } => self.stderr_lines(now, run, lines, &mut effects),
            Input::WatchdogPing { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.watchdog_pinged(transition, run));
            }
            Input::WatchdogTrigger { run } => {
                self.with_run(now, run, &mut effects, |process, transition| {
                    process.watchdog_triggered(transition, run);
                });
            }
            Input::Idle { app } => self.app_idle(now, app, &mut effects),
            Input::Demand { app } => self.app_in_demand(now, app, &mut effects),
            Input::Tick => self.tick(now, &mut effects),
        }
        self.rotate(&mut effects);
        self.settle_listeners(&mut effects);
        effects
    }

    /// Each process that stops proposes to close the listeners of its app. The proposal stands if the whole app is down
    /// by now, once an app: another process may be wanted, or the same one may have been started again meanwhile.
    fn settle_listeners(&self, effects: &mut Vec<Effect>) {
        let mut closed = BTreeSet::new();
        effects.retain(|effect| {
            let Effect::CloseListeners { app } = effect else { return true };
            self.is_down(*app) && closed.insert(*app)
        });
    }

    /// When to come back with a tick, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let operations = self.apps.values().flat_map(|app| &app.operations).filter_map(Operation::deadline);
        self.processes.values().filter_map(Process::deadline).chain(operations).min()
    }

    /// The run's process learns something; then its app's operations go on.
    fn with_run(
        &mut self,
        now: Moment,
        run: Run,
        effects: &mut Vec<Effect>,
        happen: impl FnOnce(&mut Process, &mut Transition<'_>),
    ) {
        if let Some(id) = self.runs.get(&run).copied() {
            let app = self.with_process(now, id, effects, happen);
            self.advance(now, app, effects);
        }
    }

    /// Lets `act` change a process, keeps the index of runs, and removes the process if that was its end.
    fn with_process(
        &mut self,
        now: Moment,
        id: ProcessId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Process, &mut Transition<'_>),
    ) -> AppId {
        let process = self.processes.get_mut(&id).expect("ids come from the index of processes");
        let app = process.app;
        let spec = &self.apps.get(&app).expect("an app outlives its processes").spec;
        let before: Vec<Run> = process.runs().collect();
        let last_run = self.last_run;
        act(process, &mut Transition { now, spec, effects, last_run: &mut self.last_run });
        // Also where it is removed below.
        self.dirty.insert(RecordKey::Process(id));
        if self.last_run != last_run {
            self.dirty.insert(RecordKey::Meta);
        }
        for run in before {
            self.runs.remove(&run);
        }
        self.runs.extend(process.runs().map(|run| (run, id)));
        if process.goal == Goal::Gone && process.is_empty() && !process.is_active() {
            self.remove(id, effects);
        }
        app
    }

    /// The same, unless the process is gone.
    fn with_process_if_present(
        &mut self,
        now: Moment,
        id: ProcessId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Process, &mut Transition<'_>),
    ) {
        if self.processes.contains_key(&id) {
            self.with_process(now, id, effects, act);
        }
    }

    fn remove(&mut self, id: ProcessId, effects: &mut Vec<Effect>) {
        self.processes.remove(&id);
        effects.push(Effect::Publish { process: id, kind: EventKind::Deleted });
        effects.push(Effect::ProcessRemoved { process: id });
        if self.processes.is_empty() {
            self.next_process = 0;
            self.touch(RecordKey::Meta);
        }
    }

    /// Does what is due, until nothing is: what is done for one process lets operations go on, which may do something
    /// to others, remove them, or give them a timeout of zero.
    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        loop {
            let due = |process: &Process| process.deadline().is_some_and(|deadline| deadline <= now);
            let process = self.processes.values().find(|process| due(process)).map(|process| process.id);
            let is_due = |operation: &Operation| operation.deadline().is_some_and(|deadline| deadline <= now);
            let app = match process {
                Some(id) => self.with_process(now, id, effects, Process::tick),
                None => match self.apps.values().find(|app| app.operations.iter().any(is_due)) {
                    Some(app) => app.id,
                    None => return,
                },
            };
            self.advance(now, app, effects);
        }
    }

    /// A process that stays unhealthy is replaced, if its owner wants that, and unless something is being done to it.
    fn checked(&mut self, now: Moment, run: Run, fault: Option<Fault>, effects: &mut Vec<Effect>) {
        self.with_run(now, run, effects, |process, transition| process.checked(transition, run, fault));
        let Some(process) = self.runs.get(&run).and_then(|id| self.processes.get(id)) else { return };
        let app = &self.apps[&process.app];
        let restarts = app.spec.health.as_ref().is_some_and(|health| health.on_fail == OnFail::Restart);
        let serving = matches!(process.state, State::Online(serving) if serving.run == run);
        if restarts && serving && process.health.is_unhealthy() {
            self.replace_unasked(now, process.id, None, effects);
        }
    }

    /// Replaces a process that nobody is doing anything to, unless that was tried in vain not long ago. Tells why.
    fn replace_unasked(&mut self, now: Moment, id: ProcessId, why: Option<EventKind>, effects: &mut Vec<Effect>) {
        let process = &self.processes[&id];
        let app = &self.apps[&process.app];
        if process.replace_backoff.is_over(now) && !app.operations.iter().any(|operation| operation.concerns(id)) {
            effects.extend(why.map(|kind| Effect::Publish { process: id, kind }));
            let operation = Operation::reload(None, vec![id], &Rollout::waves(1));
            self.enqueue(now, process.app, operation, effects);
        }
    }

    /// A tree over its memory limit is replaced, unless something is being done to its process already.
    fn sampled(&mut self, now: Moment, run: Run, memory: u64, effects: &mut Vec<Effect>) {
        let Some(process) = self.runs.get(&run).and_then(|id| self.processes.get(id)) else { return };
        let Some(limit) = self.apps[&process.app].spec.restart.max_memory else { return };
        let serving = matches!(process.state, State::Online(serving) if serving.run == run);
        if memory > limit && serving {
            let why = EventKind::OverMemory { bytes: memory, limit };
            self.replace_unasked(now, process.id, Some(why), effects);
        }
    }
}
