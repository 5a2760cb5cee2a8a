//! One app's part of the ledger: the keys of its records, the names of its open files, and the numbers of its messages.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::cluster::balancer::ListenerId;
use crate::keeper::{Ledger, Place, Records, SharedMemory, Word};
use crate::os::tracer::Tracer;
use crate::protocol::Run;

/// The low bits of a message number, which count within one daemon's life. The bits above are the daemon's generation.
const SEQUENCE_BITS: u32 = 32;
/// Generations are counted modulo this, so that message numbers stay exact in JavaScript (below 2^53).
const GENERATIONS: u64 = 1 << 21;
/// The low bits of a slot's listener number, which are the cluster's own. The bits above are the app's number.
const LISTENER_BITS: u32 = 32;

/// Where a cluster is persisted, and what else of the keeper it uses.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// Records and kept files.
    pub ledger: Ledger,
    /// Where each connection is: waiting in the daemon, or handed to a worker.
    pub shared_memory: Rc<SharedMemory>,
    /// Reads the memory of workers whose system calls are intercepted.
    pub tracer: Tracer,
}

/// What the previous daemon left. A cluster takes out of it what belongs to that cluster.
#[derive(Debug)]
pub struct RecoveredCluster<'a> {
    /// All records of the ledger, by key.
    pub records: &'a Records,
    /// The kept files, by name.
    pub files: &'a mut HashMap<String, OwnedFd>,
    /// The connections that have a slot in the shared memory.
    pub connections: &'a mut Vec<(OwnedFd, Place)>,
    /// All other open files. Connections accepted just before the previous daemon's end are among them.
    pub rest: &'a mut Vec<OwnedFd>,
}

/// The ledger key of a cluster's record.
#[must_use]
pub fn record_key(app: u32) -> String {
    format!("cluster/{app}")
}

/// The name that the daemon's end of a worker's IPC channel is kept under.
#[must_use]
pub fn channel_name(run: Run) -> String {
    format!("channel/{}", run.0)
}

/// The name that the daemon's end of a worker's channel of pmr's own protocol is kept under.
#[must_use]
pub fn own_channel_name(run: Run) -> String {
    format!("own-channel/{}", run.0)
}

/// The part of the persistence that belongs to one app.
#[derive(Clone, Debug)]
pub(crate) struct StateStore {
    pub(crate) app: u32,
    pub(crate) persistence: Persistence,
}

impl StateStore {
    /// Keeps a file until the guard is dropped, which must happen before the file is closed. Records put into the
    /// ledger before are written with it.
    pub(crate) fn keep(&self, name: String, file: impl AsFd) -> KeptFd {
        let kept = self.guard(name);
        kept.keep(file);
        kept
    }

    /// The guard of a file that is not kept yet.
    pub(crate) fn guard(&self, name: String) -> KeptFd {
        KeptFd { name, ledger: self.persistence.ledger.clone() }
    }

    /// The name that a listener's socket is kept under.
    pub(crate) fn listener_name(&self, id: ListenerId) -> String {
        format!("listen/{}/{}", self.app, id.0)
    }

    /// Puts the cluster's record; it is written with the next commit.
    pub(crate) fn put(&self, json: &str) {
        self.persistence.ledger.put(&record_key(self.app), json);
    }

    /// Writes what was put.
    pub(crate) fn commit(&self) {
        self.persistence.ledger.commit();
    }

    /// Removes the cluster's record, because the cluster has ended.
    pub(crate) fn remove(&self) {
        self.persistence.ledger.remove(&record_key(self.app));
        self.persistence.ledger.commit();
    }

    /// A listener's number as slots of the shared memory have it: unique over all apps.
    pub(crate) fn slot_number(&self, id: ListenerId) -> u64 {
        u64::from(self.app) << LISTENER_BITS | id.0
    }

    /// The listener with this number in a slot, if it belongs to this app.
    pub(crate) fn listener_of_slot(&self, number: u64) -> Option<ListenerId> {
        (number >> LISTENER_BITS == u64::from(self.app)).then_some(ListenerId(number & ((1 << LISTENER_BITS) - 1)))
    }

    /// The number before the first message of this daemon. Later numbers are above those of all earlier daemons.
    pub(crate) fn first_seq(&self) -> u64 {
        (self.persistence.shared_memory.get(Word::Generation) % GENERATIONS) << SEQUENCE_BITS
    }
}

/// A file kept in the ledger. Dropping it releases the file.
#[derive(Debug)]
pub(crate) struct KeptFd {
    name: String,
    ledger: Ledger,
}

impl KeptFd {
    /// Keeps the file from now on. Records put into the ledger before are written with it, both or neither.
    pub(crate) fn keep(&self, file: impl AsFd) {
        self.ledger.keep(&self.name, file);
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        self.ledger.release(&self.name);
    }
}
