//! Finding out when a worker accepts, of a program that does not say so.
//!
//! Before it serves, its queue is out of rotation, and we make a connection of our own to it; the kernel completes that at
//! once. When the connection has an owner, it has been accepted, and we close it: the program sees a client who leaves
//! without a word. Where the kernel's own hash deals connections out, nobody can be reached past it, and there is no
//! knocking; then, as for Unix paths and UDP, a worker counts as ready when it has lived for `listen_timeout`.

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

/// How often is looked, at first; then ever more seldom.
const FAST_POLL: Duration = Duration::from_millis(5);
const SLOW_POLL: Duration = Duration::from_millis(100);

/// Tells [`Notice::Listening`] when the worker has accepted at one of its addresses.
pub(crate) fn start(state: &Rc<RefCell<ActivationState>>, run: Run) {
    let task = tokio::task::spawn_local(probe(Rc::downgrade(state), run));
    if let Some(worker) = state.borrow_mut().workers.get_mut(&run) {
        worker.accept_probe = Some(AbortOnDropHandle::new(task));
    }
}

/// Ends when the knock was answered, or cannot be made, or with the worker.
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

/// While it waits it is open and belongs to nobody. It may be closed again by the time we look.
fn is_accepted(at: SocketAddr, from: SocketAddr) -> bool {
    let Ok(all) = diag::connections(at.port()) else { return false };
    let ours = |connection: &&diag::Connection| connection.peer.port() == from.port();
    !all.iter().filter(ours).any(|connection| connection.inode == 0 && connection.is_open())
}
