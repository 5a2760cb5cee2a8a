//! How much may be on its way from workers to the owner, and how long they keep us from others.
//!
//! What a worker says comes to the owner by a queue without an end. One who says more than the owner can take in (he
//! serves others, too) is not listened to until he has caught up; what it says meanwhile waits in the kernel, and then it
//! waits itself.

use tokio::sync::watch;

use super::super::{Cluster, Notice};
use super::state::{ClusterState, Shared};
use crate::protocol::Run;

/// So much of what one worker said may wait for the owner before it is no longer listened to.
const MOST_UNHEARD: u32 = 256;
/// Looks into a channel whose worker is gone: more than it takes to empty one. Somebody of its tree may live and write on.
pub(crate) const LAST_LOOKS: usize = 1024;
/// More than a channel holds: whoever has said so much by then says it now.
pub(crate) const LAST_BYTES: usize = 256 << 10;

impl Notice {
    /// Whose words it tells, if it is a worker's own.
    #[must_use]
    pub fn speaker(&self) -> Option<Run> {
        match self {
            Notice::Online { run }
            | Notice::Listening { run, .. }
            | Notice::Message { run, .. }
            | Notice::NodeVersion { run, .. } => Some(*run),
            Notice::Drained { .. }
            | Notice::ListenFailed { .. }
            | Notice::Idle { .. }
            | Notice::Demand { .. }
            | Notice::Disconnected { .. } => None,
        }
    }
}

impl Cluster {
    /// The owner has taken in a notice of this speaker ([`Notice::speaker`]). To be told of each: else its worker is not
    /// listened to any more.
    pub fn heard(&self, run: Run) {
        if let Some(member) = self.state.borrow().members.get(&run) {
            member.unheard.send_modify(|count| *count = count.saturating_sub(1));
        }
    }
}

impl ClusterState {
    /// The owner is about to be told this.
    pub(crate) fn count_unheard(&self, notice: &Notice) {
        if let Some(member) = notice.speaker().and_then(|run| self.members.get(&run)) {
            member.unheard.send_modify(|count| *count = count.saturating_add(1));
        }
    }

    /// How much of what the worker said is unheard, if that is too much.
    fn too_much_of(&self, run: Run) -> Option<watch::Receiver<u32>> {
        let unheard = &self.members.get(&run)?.unheard;
        let is_too_much = *unheard.borrow() >= MOST_UNHEARD;
        is_too_much.then(|| unheard.subscribe())
    }
}

/// Waits until the owner has taken in what the worker said, if that has become too much.
pub(crate) async fn keep(shared: &Shared, run: Run) {
    // Others on this thread have their turn, too, however much there is to read.
    tokio::task::coop::consume_budget().await;
    let unheard = shared.upgrade().and_then(|state| state.borrow().too_much_of(run));
    if let Some(mut unheard) = unheard {
        // An error means that the worker is gone.
        let _ = unheard.wait_for(|count| *count == 0).await;
    }
}
