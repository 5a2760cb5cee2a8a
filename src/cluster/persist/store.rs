//! Where a cluster is written down, so that the next God can go on with it: a record in the ledger for what changes
//! seldom, a slot of the shared_memory for each connection that is with us.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::super::balancer::ListenerId;
use crate::keeper::{Ledger, Place, Records, SharedMemory, Word};
use crate::os::clock;
use crate::os::net::diag;
use crate::os::tracer::Tracer;
use crate::protocol::Run;

/// Bits of a message number that count within one God's life; above are those of his generation.
const IN_ONE_LIFE: u32 = 32;
/// Generations are counted modulo this, so that numbers stay exact in JavaScript (below 2^53).
const GENERATIONS: u64 = 1 << 21;
/// Bits of a slot's listener number that are the cluster's own; above is the app.
const IN_ONE_APP: u32 = 32;

/// What a cluster is written down in, and what it has of the keeper besides.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// Records and kept files.
    pub ledger: Ledger,
    /// Where each connection is.
    pub shared_memory: Rc<SharedMemory>,
    /// Who looks into its workers.
    pub tracer: Tracer,
}

/// What the God before left of a cluster. What belongs to it is taken out.
#[derive(Debug)]
pub struct RecoveredCluster<'a> {
    /// All that he wrote down.
    pub records: &'a Records,
    /// Files he kept, by name.
    pub files: &'a mut HashMap<String, OwnedFd>,
    /// Connections he had written down.
    pub connections: &'a mut Vec<(OwnedFd, Place)>,
    /// What else was open. Connections accepted just before his end are among it.
    pub rest: &'a mut Vec<OwnedFd>,
}

/// Under which key the record of an app's cluster is.
#[must_use]
pub fn record_key(app: u32) -> String {
    format!("cluster/{app}")
}

/// Under which name our end of a worker's channel is kept.
#[must_use]
pub fn channel_name(run: Run) -> String {
    format!("channel/{}", run.0)
}

/// Under which name our end of a worker's channel of pmr's own protocol is kept.
#[must_use]
pub fn own_channel_name(run: Run) -> String {
    format!("own-channel/{}", run.0)
}

/// The part of the persistence that is one app's.
#[derive(Clone, Debug)]
pub(crate) struct StateStore {
    pub(crate) app: u32,
    pub(crate) persistence: Persistence,
}

impl StateStore {
    /// Keeps a file as long as the guard lives, which must be dropped before the file is closed. What was put into the
    /// ledger before is written with it.
    pub(crate) fn keep(&self, name: String, file: impl AsFd) -> KeptFd {
        let kept = self.guard(name);
        kept.keep(file);
        kept
    }

    /// The guard of a file that is to be kept.
    pub(crate) fn guard(&self, name: String) -> KeptFd {
        KeptFd { name, ledger: self.persistence.ledger.clone() }
    }

    /// The name a listener's socket is kept under.
    pub(crate) fn listener_name(&self, id: ListenerId) -> String {
        format!("listen/{}/{}", self.app, id.0)
    }

    /// Puts the record; written with the next commit.
    pub(crate) fn put(&self, json: &str) {
        self.persistence.ledger.put(&record_key(self.app), json);
    }

    /// Writes what was put.
    pub(crate) fn commit(&self) {
        self.persistence.ledger.commit();
    }

    /// The cluster is no more.
    pub(crate) fn remove(&self) {
        self.persistence.ledger.remove(&record_key(self.app));
        self.persistence.ledger.commit();
    }

    /// A listener's number as slots have it: unique over all apps.
    pub(crate) fn slot_of(&self, id: ListenerId) -> u64 {
        u64::from(self.app) << IN_ONE_APP | id.0
    }

    /// The listener of such a number, if it is one of ours.
    pub(crate) fn listener_of(&self, slot: u64) -> Option<ListenerId> {
        (slot >> IN_ONE_APP == u64::from(self.app)).then_some(ListenerId(slot & ((1 << IN_ONE_APP) - 1)))
    }

    /// A number no message of an earlier God had.
    pub(crate) fn first_seq(&self) -> u64 {
        (self.persistence.shared_memory.get(Word::Generation) % GENERATIONS) << IN_ONE_LIFE
    }
}

/// A file in the ledger; released on drop.
#[derive(Debug)]
pub(crate) struct KeptFd {
    name: String,
    ledger: Ledger,
}

impl KeptFd {
    /// Keeps the file from now on. What was put into the ledger before is written with it, both or neither.
    pub(crate) fn keep(&self, file: impl AsFd) {
        self.ledger.keep(&self.name, file);
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        self.ledger.release(&self.name);
    }
}

/// The socket of a connection that is with us, written down as such. Closed on drop, and only then forgotten.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Some until the drop.
    socket: Option<OwnedFd>,
    listener: u64,
    /// Since when it is with us, in ms of the monotonic clock.
    since: u64,
    shared_memory: Rc<SharedMemory>,
}

impl Accepted {
    /// Right after it was accepted, or taken over.
    pub(crate) fn new(socket: OwnedFd, listener: ListenerId, store: &StateStore) -> Accepted {
        let (listener, shared_memory) = (store.slot_of(listener), Rc::clone(&store.persistence.shared_memory));
        let accepted = Accepted { socket: Some(socket), listener, since: clock::monotonic_ms(), shared_memory };
        accepted.waits();
        accepted
    }

    /// Taken over from another God, who wrote down where it is. Of one that was with a worker the kernel knows how long
    /// ago it came, unless it came by a Unix path: that one has come now.
    pub(crate) fn known(socket: OwnedFd, listener: ListenerId, place: Place, store: &StateStore) -> Accepted {
        let (listener, shared_memory) = (store.slot_of(listener), Rc::clone(&store.persistence.shared_memory));
        let now = clock::monotonic_ms();
        let since = match place {
            Place::Waiting { since: Some(since), .. } => since,
            Place::Waiting { since: None, .. } | Place::Handed { .. } => {
                let age = diag::unanswered_for(&socket).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(0));
                now.saturating_sub(age)
            }
        };
        let accepted = Accepted { socket: Some(socket), listener, since, shared_memory };
        // It has its place already, but for one that comes with another number.
        accepted.put(place);
        accepted
    }

    fn put(&self, place: Place) {
        if let Some(socket) = &self.socket {
            self.shared_memory.put(socket.as_raw_fd(), place);
        }
    }

    /// It is with us.
    pub(crate) fn waits(&self) {
        self.put(Place::Waiting { listener: self.listener, since: Some(self.since) });
    }

    /// Since when it is with us, or was with the Gods before, in ms of the monotonic clock.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// The very next thing is the system call that sends it.
    pub(crate) fn is_handed(&self, run: Run, seq: u64) {
        self.put(Place::Handed { listener: self.listener, run: run.0, seq });
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("there until the drop").as_fd()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        let number = socket.as_raw_fd();
        drop(socket);
        self.shared_memory.clear(number);
    }
}
