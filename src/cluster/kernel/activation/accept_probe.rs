//! Detects when a worker accepts, for programs that do not report that they are ready.
//!
//! The queue of a starting worker is out of rotation. The daemon connects to it, which the kernel completes at once.
//! When the connection has an owner in the kernel's table, the worker has accepted it, and the daemon closes it: the
//! program sees a client that leaves without sending anything. Where the kernel's own hash distributes connections, one
//! worker cannot be reached alone, so there is no probe. Then, as for Unix paths and UDP, a worker counts as ready when
//! it has run for `listen_timeout`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::state::ActivationState;
use crate::cluster::notice::Notice;
use crate::cluster::own_connections::Unreachable;
use crate::os::net::diag;
use crate::protocol::Run;

/// Time before the second poll. It grows by a quarter with each one.
const FAST_POLL: Duration = Duration::from_millis(5);
/// The longest time between two polls.
const SLOW_POLL: Duration = Duration::from_millis(100);

/// Starts the probe of a worker. It sends [`Notice::Listening`] when the worker has accepted at one of its addresses.
pub(crate) fn start(state: &Rc<RefCell<ActivationState>>, run: Run) {
    let task = tokio::task::spawn_local(probe(Rc::downgrade(state), run));
    if let Some(worker) = state.borrow_mut().workers.get_mut(&run) {
        worker.accept_probe = Some(AbortOnDropHandle::new(task));
    }
}

/// Ends when the worker has accepted the connection or cannot be reached alone. Aborted when the worker is ready or
/// ends.
async fn probe(state: Weak<RefCell<ActivationState>>, run: Run) {
    let direct = loop {
        let Some(attempt) = state.upgrade().map(|state| state.borrow().queues.connect_to(run)) else { return };
        match attempt.await {
            Ok(direct) => break direct,
            Err(Unreachable::NotNow) => sleep(FAST_POLL).await,
            Err(_) => return,
        }
    };
    let mut pause = FAST_POLL;
    let Ok(from) = direct.connection.stream.local_addr() else { return };
    while !is_accepted(direct.at, from) {
        sleep(pause).await;
        pause = (pause * 5 / 4).min(SLOW_POLL);
    }
    if let Some(state) = state.upgrade() {
        state.borrow().notify(Notice::Listening { run, address: direct.at.to_string() });
    }
}

/// True unless a connection from this port is open and has no inode: it waits in a queue then. A connection that the
/// worker has accepted and closed between two polls is not open any more.
fn is_accepted(at: SocketAddr, from: SocketAddr) -> bool {
    let Ok(all) = diag::connections(at.port()) else { return false };
    let ours = |connection: &&diag::Connection| connection.peer.port() == from.port();
    !all.iter().filter(ours).any(|connection| connection.inode == 0 && connection.is_open())
}
