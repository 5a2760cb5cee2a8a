//! Queues that workers are given: they find them open, and nobody sees them bind or listen.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use super::state::State;
use crate::os::diag;
use crate::os::reuseport::{self, Balancer, Key};
use crate::protocol::Run;

impl State {
    /// A new socket for this worker that listens, out of rotation.
    pub(super) fn open(&mut self, run: Run, key: Key) -> io::Result<OwnedFd> {
        let socket = key.socket()?;
        let theirs = socket.try_clone()?;
        let at = self.insert(key, socket)?;
        self.enter(at, reuseport::BACKLOG)?;
        self.queues[at].hold(run);
        self.steer(key);
        self.note();
        Ok(theirs)
    }

    /// The worker accepts from all it holds.
    pub(super) fn serve(&mut self, run: Run) {
        let mut keys = BTreeSet::new();
        for queue in self.queues.iter_mut().filter(|queue| queue.is_held_by(run)) {
            queue.holders.iter_mut().filter(|holder| holder.run == run).for_each(|holder| holder.listens = true);
            keys.insert(queue.key);
        }
        keys.into_iter().for_each(|key| self.steer(key));
        self.note();
        self.look_again();
    }

    pub(super) fn steered_to<T>(&mut self, inode: u64, act: impl FnOnce() -> T) -> Option<T> {
        let queue = self.queues.iter().find(|queue| queue.inode == inode)?;
        let (key, alone) = (queue.key, queue.member?);
        let group = &mut self.places.get_mut(&key)?.group;
        if group.balancer().0 == Balancer::Hash && group.members().count() > 1 {
            return None;
        }
        group.include(alone);
        let others: Vec<_> = group.members().map(|(id, _)| id).filter(|id| *id != alone).collect();
        others.into_iter().for_each(|id| group.exclude(id));
        let outcome = act();
        self.steer(key);
        Some(outcome)
    }

    /// How many connections wait in all queues.
    pub(super) fn waiting(&self) -> u32 {
        let listening = self.queues.iter().filter(|queue| queue.member.is_some() && queue.key.tcp);
        listening.map(|queue| diag::waiting(&queue.socket).unwrap_or(0)).sum()
    }
}
