//! Queues that workers are given: they find them open, and nobody sees them bind or listen.

use std::io;
use std::os::fd::OwnedFd;

use super::queue::Queue;
use super::state::State;
use crate::os::net::reuseport;
use crate::os::net::reuseport::Key;
use crate::protocol::Run;

impl State {
    pub(crate) fn inherit(&mut self, run: Run, key: &Key) -> Option<OwnedFd> {
        if self.goes_without(run, key) {
            return None;
        }
        let vacant = self.queues.iter_mut().filter(|queue| queue.key == *key && queue.is_vacant());
        let queue = vacant.max_by_key(|queue| queue.waiting())?;
        let socket = queue.socket.try_clone().ok()?;
        queue.hold(run);
        self.steer(*key);
        self.note();
        Some(socket)
    }

    pub(crate) fn partake(&mut self, run: Run, key: &Key) -> Option<OwnedFd> {
        let is_attended = |queue: &Queue| queue.key == *key && self.is_attended(queue, |_| true);
        // Of those that begin together each may have bound before any of them listens, or is known to read.
        let is_begun = |queue: &Queue| queue.key == *key && queue.holders.iter().any(|one| self.is_included(one.run));
        let at = self.queues.iter().position(is_attended).or_else(|| self.queues.iter().position(is_begun))?;
        let queue = &mut self.queues[at];
        let socket = queue.socket.try_clone().ok()?;
        queue.hold(run);
        self.note();
        Some(socket)
    }

    /// A socket for this worker that listens, out of rotation.
    pub(crate) fn give(&mut self, run: Run, key: Key) -> io::Result<OwnedFd> {
        let socket = match self.inherit(run, &key) {
            Some(socket) => socket,
            None => self.open(run, key)?,
        };
        self.steer(key);
        self.note();
        Ok(socket)
    }

    /// The worker is through with setting up what it has bound here for datagrams. True if it has that still.
    pub(crate) fn reads(&mut self, run: Run, key: Key) -> bool {
        let reads = self.held_by(run).any(|queue| queue.key == key && queue.member.is_some());
        if reads {
            self.set_listens(run, key);
            self.steer(key);
            self.note();
        }
        reads
    }

    fn set_listens(&mut self, run: Run, key: Key) {
        let queues = self.queues.iter_mut().filter(|queue| queue.key == key);
        let holders = queues.flat_map(|queue| &mut queue.holders).filter(|holder| holder.run == run);
        holders.for_each(|holder| holder.listens = true);
    }

    fn open(&mut self, run: Run, key: Key) -> io::Result<OwnedFd> {
        let socket = key.socket()?;
        let theirs = socket.try_clone()?;
        let at = self.insert(key, socket)?;
        self.enter(at, reuseport::BACKLOG)?;
        self.queues[at].hold(run);
        Ok(theirs)
    }

    /// The worker accepts from all it holds.
    pub(crate) fn serve(&mut self, run: Run) {
        for key in self.keys_of(run) {
            self.set_listens(run, key);
            self.steer(key);
            self.move_waiting(key);
        }
        self.note();
        self.look_again();
    }

    /// How many connections wait in all queues.
    pub(crate) fn waiting(&self) -> u32 {
        let listening = self.queues.iter().filter(|queue| queue.member.is_some() && queue.key.tcp);
        listening.map(Queue::waiting).sum()
    }
}
