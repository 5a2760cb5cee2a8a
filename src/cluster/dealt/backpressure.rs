//! Limits on what workers may send: how many notices may wait for the owner, and how long a worker's messages may keep
//! the daemon from others.
//!
//! The owner gets notices by an unbounded queue. A worker that sends more than the owner can handle (which handles
//! those of other workers, too) is not read from until the owner has caught up. Its messages wait in the kernel
//! meanwhile, and then the worker itself waits.

use tokio::sync::watch;

use super::state::{ClusterState, WeakClusterState};
use crate::protocol::Run;

/// The most notices of one worker that may wait for the owner.
const MAX_UNHANDLED: u32 = 256;
/// The most reads from the channel of a worker that is gone: more than it takes to empty one. Another process of the
/// worker's tree may live on and keep writing.
pub(crate) const LAST_READS: usize = 1024;
/// More bytes than a channel's buffer holds: what is read beyond that was written after the worker's end.
pub(crate) const LAST_BYTES: usize = 256 << 10;

/// Waits until the owner has handled the worker's notices, if there are too many.
pub(crate) async fn wait_for_owner(shared: &WeakClusterState, run: Run) {
    // Other tasks of this thread get their turn, however much there is to read.
    tokio::task::coop::consume_budget().await;
    let unhandled = shared.upgrade().and_then(|state| too_many_notices(&state.borrow(), run));
    if let Some(mut unhandled) = unhandled {
        // An error means that the worker is gone.
        let _ = unhandled.wait_for(|count| *count == 0).await;
    }
}

/// The counter of the worker's unhandled notices, if there are too many.
fn too_many_notices(state: &ClusterState, run: Run) -> Option<watch::Receiver<u32>> {
    let unhandled = &state.members.get(&run)?.unhandled;
    let is_too_many = *unhandled.borrow() >= MAX_UNHANDLED;
    is_too_many.then(|| unhandled.subscribe())
}
