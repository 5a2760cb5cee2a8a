//! Queues that workers are given: they find them open, and nobody sees them bind or listen.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use super::state::State;
use crate::os::diag;
use crate::os::reuseport::{self, Key};
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
        for key in keys {
            self.steer(key);
            self.move_waiting(key);
        }
        self.note();
        self.look_again();
    }

    /// How many connections wait in all queues.
    pub(super) fn waiting(&self) -> u32 {
        let listening = self.queues.iter().filter(|queue| queue.member.is_some() && queue.key.tcp);
        listening.map(|queue| diag::waiting(&queue.socket).unwrap_or(0)).sum()
    }
}
