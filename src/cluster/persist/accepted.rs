//! The slot in the shared memory of each connection that the daemon holds. Writing a slot costs no system call, so it can
//! be done for every connection.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::ledger::StateStore;
use crate::cluster::balancer::ListenerId;
use crate::keeper::{Place, SharedMemory};
use crate::os::clock;
use crate::os::net::diag;
use crate::protocol::Run;

/// The socket of an accepted connection, with its slot. On drop the socket is closed first and the slot cleared after.
#[derive(Debug)]
pub(crate) struct AcceptedSocket {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    /// The listener's number as slots have it.
    listener: u64,
    /// When the daemon got the connection, in ms of the monotonic clock.
    since: u64,
    shared_memory: Rc<SharedMemory>,
}

impl AcceptedSocket {
    /// A connection that was accepted just now. It is marked as waiting.
    pub(crate) fn new(socket: OwnedFd, listener: ListenerId, store: &StateStore) -> AcceptedSocket {
        let (listener, shared_memory) = (store.slot_number(listener), Rc::clone(&store.persistence.shared_memory));
        let accepted = AcceptedSocket { socket: Some(socket), listener, since: clock::monotonic_ms(), shared_memory };
        accepted.mark_waiting();
        accepted
    }

    /// A connection that the previous daemon left at `place`. For one that was handed to a worker, the kernel knows its
    /// age, unless it came by a Unix path: that one counts from now.
    pub(crate) fn recovered(socket: OwnedFd, listener: ListenerId, place: Place, store: &StateStore) -> AcceptedSocket {
        let (listener, shared_memory) = (store.slot_number(listener), Rc::clone(&store.persistence.shared_memory));
        let now = clock::monotonic_ms();
        let since = match place {
            Place::Waiting { since: Some(since), .. } => since,
            Place::Waiting { since: None, .. } | Place::Handed { .. } => {
                let age = diag::unanswered_for(&socket).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(0));
                now.saturating_sub(age)
            }
        };
        let accepted = AcceptedSocket { socket: Some(socket), listener, since, shared_memory };
        // The slot is written already, unless the descriptor has another number now.
        accepted.put(place);
        accepted
    }

    fn put(&self, place: Place) {
        if let Some(socket) = &self.socket {
            self.shared_memory.put(socket.as_raw_fd(), place);
        }
    }

    /// The connection waits in the daemon.
    pub(crate) fn mark_waiting(&self) {
        self.put(Place::Waiting { listener: self.listener, since: Some(self.since) });
    }

    /// When this daemon or an earlier one got the connection, in ms of the monotonic clock.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// The next system call sends the connection to this worker, with this message number.
    pub(crate) fn mark_handed(&self, run: Run, seq: u64) {
        self.put(Place::Handed { listener: self.listener, run: run.0, seq });
    }
}

impl AsFd for AcceptedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("there until the drop").as_fd()
    }
}

impl Drop for AcceptedSocket {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        let number = socket.as_raw_fd();
        drop(socket);
        self.shared_memory.clear(number);
    }
}
