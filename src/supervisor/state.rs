//! All that the supervisor knows, and how one process in it is changed. The other files add what follows from that.

use std::collections::{BTreeMap, BTreeSet};

use super::app::App;
use super::id::{AppId, ProcessId, Ticket};
use super::input::Effect;
use super::moment::Moment;
use super::persist::RecordKey;
use super::process::{Goal, Process, Transition};
use crate::protocol::{EventKind, Report, Run};

/// All supervision state.
#[derive(Debug, Default)]
pub struct Supervisor {
    pub(super) apps: BTreeMap<AppId, App>,
    pub(super) processes: BTreeMap<ProcessId, Process>,
    /// The process of each run that may be alive.
    pub(super) runs: BTreeMap<Run, ProcessId>,
    /// Tickets whose answer waits for operations.
    pub(super) waits: BTreeMap<Ticket, Wait>,
    pub(super) last_run: u64,
    pub(super) next_app: u32,
    pub(super) next_process: u32,
    pub(super) closing: bool,
    /// The runs out of rotation, as of the last effects; see [`Supervisor::is_ejected`].
    pub(super) last_ejected: BTreeSet<Run>,
    /// Records that have changed since [`Supervisor::changes`] last returned them.
    pub(super) dirty: BTreeSet<RecordKey>,
}

/// A request whose answer waits for operations.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// Operations not finished yet.
    pub(super) open: usize,
    /// The lines and notes of the answer so far.
    pub(super) report: Report,
}

impl Supervisor {
    /// Lets the process of a run make a transition; then the operations of its app go on. Does nothing if the run is
    /// unknown.
    pub(super) fn with_run(
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
    pub(super) fn with_process(
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
    pub(super) fn with_process_if_present(
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

    pub(super) fn remove(&mut self, id: ProcessId, effects: &mut Vec<Effect>) {
        self.processes.remove(&id);
        effects.push(Effect::Publish { process: id, kind: EventKind::Deleted });
        effects.push(Effect::ProcessRemoved { process: id });
        if self.processes.is_empty() {
            self.next_process = 0;
            self.touch(RecordKey::Meta);
        }
    }
}
