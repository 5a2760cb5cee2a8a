//! Workers that listen and are not ready, or not well any more: who gets their connections.
//!
//! To one that is not ready nothing goes. Connections then go to those who serve. While nobody does, they wait at a door
//! of ours, which the worker does not inherit; when it is ready, the kernel moves them to it. Where the kernel moves none
//! (no `CAP_BPF`, or before Linux 5.14), whatever waits would wait for ever, so there the first worker takes what comes as
//! soon as it accepts.
//!
//! One that was ready and is unwell is passed over: nothing goes to it at addresses where somebody better accepts. What
//! waits in its queue stays there, since it accepts on. With every balancer but the kernel's hash.

use std::collections::BTreeSet;

use super::queue::{Holder, Queue, QueueId};
use super::state::State;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{KernelBalancing, Key};
use crate::protocol::Run;

impl State {
    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        if self.not_ready.insert(run) {
            self.steer_those_of(run);
            self.note();
        }
    }

    pub(crate) fn eject(&mut self, run: Run) {
        if self.aside.insert(run) {
            self.steer_those_of(run);
            self.note();
        }
    }

    pub(crate) fn admit(&mut self, run: Run) {
        let was_withheld = self.not_ready.remove(&run);
        if !self.aside.remove(&run) && !was_withheld {
            return;
        }
        for key in self.keys_of(run) {
            self.steer(key);
            self.move_waiting(key);
        }
        self.note();
        self.look_again();
    }

    pub(crate) fn is_served_queue(&self, queue: &Queue) -> bool {
        self.is_attended(queue, |run| !self.not_ready.contains(&run))
    }

    /// True if somebody accepts there of whom this holds, and who is not on his way out.
    pub(crate) fn is_attended(&self, queue: &Queue, by: impl Fn(Run) -> bool) -> bool {
        let accepts = |holder: &Holder| holder.listens && self.is_included(holder.run) && by(holder.run);
        queue.member.is_some()
            && queue.holders.iter().any(accepts)
            && (!queue.key.tcp || reuseport::listens(&queue.socket))
    }

    /// The queues among these that somebody serves who is well; with none, those that anybody serves.
    pub(crate) fn best_served<'a>(&self, queues: impl Iterator<Item = &'a Queue>) -> BTreeSet<QueueId> {
        let served: Vec<&Queue> = queues.filter(|queue| self.is_served_queue(queue)).collect();
        let all = || served.iter().map(|queue| queue.id).collect();
        if self.aside.is_empty() {
            return all();
        }
        let is_good = |run: Run| !self.not_ready.contains(&run) && !self.aside.contains(&run);
        let good: BTreeSet<QueueId> =
            served.iter().filter(|queue| self.is_attended(queue, is_good)).map(|queue| queue.id).collect();
        if good.is_empty() { all() } else { good }
    }

    /// True if this worker is to stay without what waits, too, since that can be moved to it.
    pub(crate) fn goes_without(&self, run: Run, key: &Key) -> bool {
        let moves = || match self.places.get(key) {
            Some(place) => place.group.migrates(),
            None => key.tcp && self.at_most == KernelBalancing::RoundRobin && reuseport::can_migrate(),
        };
        self.not_ready.contains(&run) && moves()
    }

    /// Before the first socket of an address listens: so that nothing gets to it even for a moment.
    pub(crate) fn shut_out(&mut self, run: Run, key: Key) {
        let is_first = self.places.get(&key).is_none_or(|place| place.group.members().next().is_none());
        if is_first
            && self.goes_without(run, &key)
            && let Err(error) = self.open_placeholder(key)
        {
            tracing::debug!(address = %key.address, %error, "no door can be opened");
        }
    }
}
