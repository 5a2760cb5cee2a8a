//! One accept queue, and the group of those at the same address.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use tokio_util::task::AbortOnDropHandle;

use crate::cluster::persist::{KeptFd, StateStore};
use crate::cluster::waiting::Shedder;
use crate::os::clock;
use crate::os::net::diag;
use crate::os::net::reuseport::{Group, Key, MemberId};
use crate::protocol::Run;

/// Which queue it is among those of an app. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct QueueId(pub(crate) u64);

impl QueueId {
    pub(crate) fn name(self, store: &StateStore) -> String {
        format!("queue/{}/{}", store.app, self.0)
    }
}

/// A bound socket, and what waits in it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) key: Key,
    /// By which it is known again in the hands of programs.
    pub(crate) inode: u64,
    /// Dropped before the socket.
    pub(crate) _kept: KeptFd,
    pub(crate) socket: OwnedFd,
    /// Once it listens, or is UDP: which it is in its group.
    pub(crate) member: Option<MemberId>,
    pub(crate) holders: Vec<Holder>,
    /// Since when nobody holds it, in ms of the monotonic clock.
    pub(crate) vacant_since: Option<u64>,
    /// Notices if its program closes it.
    pub(crate) close_watch: Option<AbortOnDropHandle<()>>,
    /// Turns away who waits too long while nobody serves.
    pub(crate) shedder: Shedder,
}

/// A worker that has a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) run: Run,
    /// It listens there, or reads datagrams: else it inherited a socket that did already, or binds one of datagrams just
    /// now, and is still getting ready.
    pub(crate) listens: bool,
}

impl Queue {
    /// One that nobody holds, and that does not listen. Its socket is kept from now on.
    pub(crate) fn new(id: QueueId, key: Key, inode: u64, socket: OwnedFd, store: &StateStore) -> Queue {
        let kept = store.keep(id.name(store), &socket);
        let (holders, vacant_since) = (Vec::new(), Some(clock::monotonic_ms()));
        let (member, close_watch, shedder) = (None, None, Shedder::default());
        Queue { id, key, inode, _kept: kept, socket, member, holders, vacant_since, close_watch, shedder }
    }

    pub(crate) fn is_held_by(&self, run: Run) -> bool {
        self.holders.iter().any(|holder| holder.run == run)
    }

    /// True if a worker that comes can have it as its own.
    pub(crate) fn is_vacant(&self) -> bool {
        self.holders.is_empty() && self.member.is_some()
    }

    /// How many connections wait to be accepted; 1 if any datagrams wait to be read, which nobody counts.
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
    /// For the names of its files.
    pub(crate) id: u64,
    pub(crate) kernel: Group,
    /// Files of the balancer that are kept, dropped before those.
    files: Vec<(RawFd, KeptFd)>,
}

impl QueueGroup {
    pub(crate) fn new(id: u64, group: Group) -> QueueGroup {
        QueueGroup { id, kernel: group, files: Vec::new() }
    }

    pub(crate) fn file_name(store: &StateStore, group: u64, file: &str) -> String {
        format!("queue/{}/balancer/{group}/{file}", store.app)
    }

    /// Brings one queue into rotation, or takes it out.
    pub(crate) fn set_included(&mut self, member: MemberId, included: bool) {
        let now = self.kernel.members().find(|(id, _)| *id == member).map(|(_, included)| included);
        match now {
            Some(now) if now != included && included => self.kernel.include(member),
            Some(now) if now != included => self.kernel.exclude(member),
            Some(_) | None => {}
        }
    }

    /// Keeps the balancer's files as they are now. To be called after each change of the group.
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
