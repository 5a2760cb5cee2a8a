//! Processes that the supervisor replaces of its own accord: unhealthy ones and those over their memory limit.

use super::id::ProcessId;
use super::input::{Effect, Fault};
use super::moment::Moment;
use super::operation::Operation;
use super::process::State;
use super::state::Supervisor;
use crate::protocol::{EventKind, Rollout, Run};
use crate::spec::health::OnFail;

impl Supervisor {
    /// A run was checked. A process that became unhealthy is replaced if its spec says so (`on_fail: restart`) and no
    /// operation works on it.
    pub(super) fn checked(&mut self, now: Moment, run: Run, fault: Option<Fault>, effects: &mut Vec<Effect>) {
        self.with_run(now, run, effects, |process, transition| process.checked(transition, run, fault));
        let Some(process) = self.runs.get(&run).and_then(|id| self.processes.get(id)) else { return };
        let app = &self.apps[&process.app];
        let restarts = app.spec.health.as_ref().is_some_and(|health| health.on_fail == OnFail::Restart);
        let serving = matches!(process.state, State::Online(serving) if serving.run == run);
        if restarts && serving && process.health.is_unhealthy() {
            self.replace_unasked(now, process.id, None, effects);
        }
    }

    /// Replaces a process on which no operation works, unless a replacement failed not long ago (see
    /// [`ReplaceBackoff`](super::process::ReplaceBackoff)). Publishes `why` if it does.
    fn replace_unasked(&mut self, now: Moment, id: ProcessId, why: Option<EventKind>, effects: &mut Vec<Effect>) {
        let process = &self.processes[&id];
        let app = &self.apps[&process.app];
        if process.replace_backoff.is_over(now) && !app.operations.iter().any(|operation| operation.concerns(id)) {
            effects.extend(why.map(|kind| Effect::Publish { process: id, kind }));
            let operation = Operation::reload(None, vec![id], &Rollout::waves(1));
            self.enqueue(now, process.app, operation, effects);
        }
    }

    /// The memory of a run was measured. A process over `max_memory` is replaced, unless an operation works on it
    /// already.
    pub(super) fn sampled(&mut self, now: Moment, run: Run, memory: u64, effects: &mut Vec<Effect>) {
        let Some(process) = self.runs.get(&run).and_then(|id| self.processes.get(id)) else { return };
        let Some(limit) = self.apps[&process.app].spec.restart.max_memory else { return };
        let serving = matches!(process.state, State::Online(serving) if serving.run == run);
        if memory > limit && serving {
            let why = EventKind::OverMemory { bytes: memory, limit };
            self.replace_unasked(now, process.id, Some(why), effects);
        }
    }
}
