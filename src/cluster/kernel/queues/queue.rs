//! One accept queue, and the group of all queues at the same address.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use tokio_util::task::AbortOnDropHandle;

use crate::cluster::persist::{KeptFd, StateStore};
use crate::cluster::waiting::Shedder;
use crate::os::clock;
use crate::os::net::diag;
use crate::os::net::reuseport::{Group, Key, MemberId};
use crate::protocol::Run;

/// Identifies a queue among those of an app. A number is never used twice, also after the death of God.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct QueueId(pub(crate) u64);

impl QueueId {
    /// The name of the queue's socket in the keeper.
    pub(crate) fn name(self, store: &StateStore) -> String {
        format!("queue/{}/{}", store.app, self.0)
    }
}

/// A bound socket, and the workers that have it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) key: Key,
    /// Of the socket: by it the daemon recognizes the socket in a program's descriptors.
    pub(crate) inode: u64,
    /// Its entry in the ledger. Dropped before the socket, so that the ledger never names a closed descriptor.
    pub(crate) _kept: KeptFd,
    pub(crate) socket: OwnedFd,
    /// Its place in the group: set once it listens, and for UDP once it is bound.
    pub(crate) member: Option<MemberId>,
    pub(crate) holders: Vec<Holder>,
    /// Since when it has no holder, in milliseconds of the monotonic clock; `None` while it has one.
    pub(crate) vacant_since: Option<u64>,
    /// The task that notices when its program closes it.
    pub(crate) close_watch: Option<AbortOnDropHandle<()>>,
    /// Rejects connections that wait too long while no worker serves.
    pub(crate) shedder: Shedder,
}

/// A worker that has a copy of a queue's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) run: Run,
    /// True once the worker listens on the socket or reads its datagrams. False while it starts with a socket that it
    /// inherited or that it has just bound.
    pub(crate) listens: bool,
}

impl Queue {
    /// A queue without a holder that does not listen yet. From now on the keeper has a copy of its socket.
    pub(crate) fn new(id: QueueId, key: Key, inode: u64, socket: OwnedFd, store: &StateStore) -> Queue {
        let kept = store.keep(id.name(store), &socket);
        let (holders, vacant_since) = (Vec::new(), Some(clock::monotonic_ms()));
        let (member, close_watch, shedder) = (None, None, Shedder::default());
        Queue { id, key, inode, _kept: kept, socket, member, holders, vacant_since, close_watch, shedder }
    }

    pub(crate) fn is_held_by(&self, run: Run) -> bool {
        self.holders.iter().any(|holder| holder.run == run)
    }

    /// True if it listens and has no holder: the next worker can inherit it.
    pub(crate) fn is_vacant(&self) -> bool {
        self.holders.is_empty() && self.member.is_some()
    }

    /// How many connections wait to be accepted. For UDP 1 if any datagram waits, since the kernel does not count them.
    pub(crate) fn waiting(&self) -> u32 {
        if self.key.tcp {
            diag::waiting(&self.socket).unwrap_or(0)
        } else {
            u32::from(diag::has_datagrams(&self.socket))
        }
    }

    pub(crate) fn hold(&mut self, run: Run) {
        if !self.is_held_by(run) {
            self.holders.push(Holder { run, listens: false });
        }
        self.vacant_since = None;
    }

    pub(crate) fn release(&mut self, run: Run) {
        self.holders.retain(|holder| holder.run != run);
        if self.holders.is_empty() {
            self.vacant_since = Some(clock::monotonic_ms());
        }
    }
}

/// The queues at one address, as the kernel has them.
#[derive(Debug)]
pub(crate) struct QueueGroup {
    /// Part of the names of its files in the keeper.
    pub(crate) id: u64,
    pub(crate) kernel: Group,
    /// The balancer's descriptors (BPF programs and maps) with their entries in the ledger, which go before the group.
    files: Vec<(RawFd, KeptFd)>,
}

impl QueueGroup {
    pub(crate) fn new(id: u64, group: Group) -> QueueGroup {
        QueueGroup { id, kernel: group, files: Vec::new() }
    }

    /// The name of one file of the balancer in the keeper.
    pub(crate) fn file_name(store: &StateStore, group: u64, file: &str) -> String {
        format!("queue/{}/balancer/{group}/{file}", store.app)
    }

    /// Brings one queue into rotation or takes it out. Nothing happens if it is there already, or is no member.
    pub(crate) fn set_included(&mut self, member: MemberId, included: bool) {
        let now = self.kernel.members().find(|(id, _)| *id == member).map(|(_, included)| included);
        match now {
            Some(now) if now != included && included => self.kernel.include(member),
            Some(now) if now != included => self.kernel.exclude(member),
            Some(_) | None => {}
        }
    }

    /// Gives the keeper the balancer's current files. To be called after each change of the group.
    pub(crate) fn keep_files(&mut self, store: &StateStore) {
        let now: Vec<(&str, BorrowedFd<'_>)> = self.kernel.files();
        if now.iter().map(|(_, file)| file.as_raw_fd()).eq(self.files.iter().map(|(number, _)| *number)) {
            return;
        }
        self.files.clear();
        for (name, file) in now {
            self.files.push((file.as_raw_fd(), store.keep(QueueGroup::file_name(store, self.id, name), file)));
        }
    }
}

impl Drop for QueueGroup {
    fn drop(&mut self) {
        self.files.clear();
    }
}
