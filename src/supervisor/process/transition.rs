//! What a transition of one process may read and write.

use crate::protocol::EventKind;
use crate::spec::AppSpec;
use crate::supervisor::id::ProcessId;
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;

/// What a transition may look at and write to.
pub struct Transition<'a> {
    /// The time of the input that is handled.
    pub now: Moment,
    /// The app's spec.
    pub spec: &'a AppSpec,
    /// The effects so far, to which the transition adds its own.
    pub effects: &'a mut Vec<Effect>,
    /// The number of the newest run of the daemon: the next run gets one more.
    pub last_run: &'a mut u64,
}

impl Transition<'_> {
    /// True if a run is not ready before it has shown so.
    pub(super) fn must_prove(&self) -> bool {
        self.spec.readiness.wait_ready || self.spec.health.is_some()
    }

    pub(super) fn publish(&mut self, process: ProcessId, kind: EventKind) {
        self.effects.push(Effect::Publish { process, kind });
    }
}
