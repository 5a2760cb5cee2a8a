//! Which queues are in rotation at an address.
//!
//! Connections go to the queues of workers that accept and are not excluded. A worker that listens and is not ready
//! gets none. Connections then go to the others; while there are none, they wait at a placeholder socket, which the
//! worker does not inherit. When the worker is ready, the kernel moves them to it. Where the kernel moves none (no
//! `CAP_BPF`, or before Linux 5.14), they would wait for ever, so there the first worker takes what comes as soon as it
//! accepts.
//!
//! An ejected worker gets none at addresses where a healthy one accepts. What waits in its queue stays there, since it
//! accepts on. This works with every balancer but the kernel's hash.
//!
//! With `balance: sticky` each client belongs to the instance number of a worker (its *seat*), so that the worker's
//! successor inherits the client.
//!
//! While no worker serves an address, connections that wait there longer than `queue_timeout` are rejected.

use std::collections::BTreeSet;

use super::queue::{Holder, Queue, QueueId};
use super::table::{QueueTable, WeakQueueTable};
use crate::cluster::waiting::Arrivals;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Deal, KernelBalancing, Key, Seat};
use crate::protocol::Run;
use crate::spec::QueueRule;

impl QueueTable {
    /// True if the worker is known and was not excluded. It may be unready or ejected.
    pub(crate) fn is_included(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|worker| !worker.excluded)
    }

    pub(crate) fn is_served(&self, key: &Key) -> bool {
        self.queues.iter().any(|queue| queue.key == *key && self.is_served_queue(queue))
    }

    /// Updates the rotation of the group at this address to [`QueueTable::rotation_at`], and opens a placeholder if
    /// that is empty. To be called after each change of queues, holders or workers.
    pub(crate) fn update_rotation(&mut self, key: Key) {
        let rotation_at = self.rotation_at(&key);
        if rotation_at.is_empty() && self.queues.iter().any(|queue| queue.key == key && queue.member.is_some()) {
            // Without a placeholder, connections go to workers that leave: better than to refuse them.
            match self.open_placeholder(key) {
                Ok(()) => {}
                Err(error) => tracing::debug!(address = %key.address, %error, "no placeholder socket can be opened"),
            }
        }
        self.assign_seats(&key);
        let rotation_at = self.rotation_at(&key);
        let Some(group) = self.groups.get_mut(&key) else { return };
        // Inclusions come before exclusions, so that the rotation is never empty in between.
        for wanted in [true, false] {
            for queue in self.queues.iter().filter(|queue| queue.key == key) {
                if let Some(member) = queue.member
                    && (rotation_at.contains(&queue.id) == wanted)
                {
                    group.set_included(member, wanted);
                }
            }
        }
        group.keep_files(&self.store);
        self.update_shedders(&key);
    }

    /// The queues that should be in rotation at this address: those that are served best; without any, the one queue
    /// that is vacant or belongs to a worker that is starting.
    pub(crate) fn rotation_at(&self, key: &Key) -> BTreeSet<QueueId> {
        let here = || self.queues.iter().filter(|queue| queue.key == *key && queue.member.is_some());
        let served = self.best_served(here());
        if !served.is_empty() {
            return served;
        }
        let may_get = |run: Run| self.is_included(run) && !self.must_stay_empty(run, key);
        let will_be_served = |queue: &Queue| queue.holders.iter().any(|holder| may_get(holder.run));
        let candidates = here().filter(|queue| queue.is_vacant() || will_be_served(queue));
        let listening = candidates.filter(|queue| !queue.key.tcp || reuseport::listens(&queue.socket));
        // The queue that is in rotation stays there, so that all connections wait in one.
        let placeholder = listening.max_by_key(|queue| (self.is_in_rotation(queue), queue.waiting()));
        placeholder.map(|queue| queue.id).into_iter().collect()
    }

    fn is_in_rotation(&self, queue: &Queue) -> bool {
        let members = self.groups.get(&queue.key).into_iter().flat_map(|group| group.kernel.members());
        members.into_iter().any(|(id, included)| included && Some(id) == queue.member)
    }

    pub(crate) fn exclude(&mut self, run: Run) {
        let Some(worker) = self.workers.get_mut(&run) else { return };
        if std::mem::replace(&mut worker.excluded, true) {
            return;
        }
        self.update_rotation_of(run);
        self.save();
    }

    pub(crate) fn keys_of(&self, run: Run) -> BTreeSet<Key> {
        self.held_by(run).map(|queue| queue.key).collect()
    }

    pub(crate) fn update_rotation_of(&mut self, run: Run) {
        self.keys_of(run).into_iter().for_each(|key| self.update_rotation(key));
    }

    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        if self.not_ready.insert(run) {
            self.update_rotation_of(run);
            self.save();
        }
    }

    pub(crate) fn eject(&mut self, run: Run) {
        if self.ejected.insert(run) {
            self.update_rotation_of(run);
            self.save();
        }
    }

    pub(crate) fn admit(&mut self, run: Run) {
        let was_not_ready = self.not_ready.remove(&run);
        if !self.ejected.remove(&run) && !was_not_ready {
            return;
        }
        for key in self.keys_of(run) {
            self.update_rotation(key);
            self.migrate_waiting(key);
        }
        self.save();
        self.schedule_orphan_check();
    }

    /// True if a worker accepts there that is included and ready. It may be ejected.
    pub(crate) fn is_served_queue(&self, queue: &Queue) -> bool {
        self.is_accepted_by(queue, |run| !self.not_ready.contains(&run))
    }

    /// True if an included worker accepts there for which `by` holds.
    pub(crate) fn is_accepted_by(&self, queue: &Queue, by: impl Fn(Run) -> bool) -> bool {
        let accepts = |holder: &Holder| holder.listens && self.is_included(holder.run) && by(holder.run);
        queue.member.is_some()
            && queue.holders.iter().any(accepts)
            && (!queue.key.tcp || reuseport::listens(&queue.socket))
    }

    /// Those of these queues that a healthy worker serves; without any, those that any worker serves.
    pub(crate) fn best_served<'a>(&self, queues: impl Iterator<Item = &'a Queue>) -> BTreeSet<QueueId> {
        let served: Vec<&Queue> = queues.filter(|queue| self.is_served_queue(queue)).collect();
        let all = || served.iter().map(|queue| queue.id).collect();
        if self.ejected.is_empty() {
            return all();
        }
        let is_healthy = |run: Run| !self.not_ready.contains(&run) && !self.ejected.contains(&run);
        let healthy: BTreeSet<QueueId> =
            served.iter().filter(|queue| self.is_accepted_by(queue, is_healthy)).map(|queue| queue.id).collect();
        if healthy.is_empty() { all() } else { healthy }
    }

    /// True if an unready worker must not even inherit what waits at this address: the kernel can move it there once
    /// the worker is ready.
    pub(crate) fn must_stay_empty(&self, run: Run, key: &Key) -> bool {
        let moves = || match self.groups.get(key) {
            Some(group) => group.kernel.migrates(),
            None => key.tcp && self.best_balancing == KernelBalancing::RoundRobin && reuseport::can_migrate(),
        };
        self.not_ready.contains(&run) && moves()
    }

    /// Opens a placeholder before the first socket of an address listens, so that no connection reaches an unready
    /// worker between its `listen` and the update of the rotation.
    pub(crate) fn open_placeholder_before(&mut self, run: Run, key: Key) {
        let is_first = self.groups.get(&key).is_none_or(|group| group.kernel.members().next().is_none());
        if is_first
            && self.must_stay_empty(run, &key)
            && let Err(error) = self.open_placeholder(key)
        {
            tracing::debug!(address = %key.address, %error, "no placeholder socket can be opened");
        }
    }

    /// See [`super::Queues::set_deal`]. The kernel's hash cannot choose by client address.
    pub(crate) fn set_deal(&mut self, deal: Deal) {
        self.deal = deal;
        let mut changed = false;
        for group in self.groups.values_mut().filter(|group| group.kernel.deal() != deal) {
            group.kernel.set_deal(deal);
            group.keep_files(&self.store);
            changed = true;
        }
        if changed {
            self.save();
        }
    }

    /// See [`super::Queues::set_instance`].
    pub(crate) fn set_instance(&mut self, run: Run, instance: u32) {
        if self.instances.insert(run, instance) != Some(instance) && self.held_by(run).next().is_some() {
            self.update_rotation_of(run);
            self.save();
        }
    }

    /// Sets the seat of each queue in the group at this address.
    pub(crate) fn assign_seats(&mut self, key: &Key) {
        let here = self.queues.iter().filter(|queue| queue.key == *key);
        let seats: Vec<_> = here.filter_map(|queue| Some((queue.member?, self.seat(queue)))).collect();
        if let Some(group) = self.groups.get_mut(key) {
            seats.into_iter().for_each(|(member, seat)| group.kernel.set_seat(member, seat));
        }
    }

    /// The seat of the queue's youngest holder. A vacant queue has none, since clients only wait in it.
    fn seat(&self, queue: &Queue) -> Option<Seat> {
        let run = queue.holders.iter().map(|holder| holder.run).max()?;
        Some(Seat { number: self.instances.get(&run).copied()?, rank: run.0 })
    }

    /// See [`super::Queues::set_rule`]. The time that connections have waited already counts.
    pub(crate) fn set_rule(&mut self, rule: QueueRule) {
        self.rule = rule;
        if rule.timeout.is_none() {
            self.queues.iter_mut().for_each(|queue| queue.shedder.stop());
        }
        let keys: Vec<Key> = self.groups.keys().copied().collect();
        keys.iter().for_each(|key| self.update_shedders(key));
    }

    /// Starts the shedders at an address where no worker serves, and stops them elsewhere. To be called after each
    /// change. Before [`QueueTable::set_rule`] it does nothing, so that arrival times from the previous God are kept.
    pub(crate) fn update_shedders(&mut self, key: &Key) {
        if self.rule.timeout.is_none() || !key.tcp {
            return;
        }
        let (unserved, rule, me) = (!self.is_served(key), self.rule, self.me.clone());
        let alone = |queue: &Queue| queue.member.is_some() && queue.holders.iter().all(|holder| !holder.listens);
        for queue in self.queues.iter_mut().filter(|queue| queue.key == *key) {
            if unserved && alone(queue) {
                let (me, id) = (me.clone(), queue.id);
                queue.shedder.start(&queue.socket, rule, move |arrivals| save_arrivals(&me, id, arrivals));
            } else {
                queue.shedder.stop();
            }
        }
    }
}

/// Records since when connections wait in a queue, so that their time goes on after the death of God.
fn save_arrivals(state: &WeakQueueTable, id: QueueId, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(queue) = state.queues.iter_mut().find(|queue| queue.id == id) {
        queue.shedder.set_arrivals(arrivals);
        state.save();
    }
}
