//! Which queues are in rotation at an address.
//!
//! Connections go to the queues of workers that accept and are not excluded. A worker that listens and is not ready gets
//! none. Connections then go to the others; while there are none, they wait at a placeholder socket, which the worker does
//! not inherit. When the worker is ready, the kernel moves them to it. Where the kernel moves none (no `CAP_BPF`, or before
//! Linux 5.14), they would wait for ever, so there the first worker takes what comes as soon as it accepts.
//!
//! An ejected worker gets none at addresses where a healthy one accepts. What waits in its queue stays there, since it
//! accepts on. This works with every balancer but the kernel's hash.
//!
//! With `balance: sticky` each client belongs to the instance number of a worker (its *seat*), so that the worker's
//! successor inherits the client.
//!
//! While no worker serves an address, connections that wait there too long are rejected.

use std::collections::BTreeSet;

use super::queue::{Holder, Queue, QueueId};
use super::table::{QueueTable, WeakQueueTable};
use crate::cluster::waiting::Arrivals;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Deal, KernelBalancing, Key, Seat};
use crate::protocol::Run;
use crate::spec::QueueRule;

impl QueueTable {
    pub(crate) fn is_included(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|worker| !worker.excluded)
    }

    pub(crate) fn is_served(&self, key: &Key) -> bool {
        self.queues.iter().any(|queue| queue.key == *key && self.is_served_queue(queue))
    }

    /// Brings the group at this address in order: those of included workers are in rotation. Without any, it is one that
    /// has nobody, or is with somebody who is only getting ready; and without that, one is opened.
    pub(crate) fn update_rotation(&mut self, key: Key) {
        let rotation_at = self.rotation_at(&key);
        if rotation_at.is_empty() && self.queues.iter().any(|queue| queue.key == key && queue.member.is_some()) {
            // What cannot be had is done without: connections then go to those who leave.
            match self.open_placeholder(key) {
                Ok(()) => {}
                Err(error) => tracing::debug!(address = %key.address, %error, "no door can be opened"),
            }
        }
        self.assign_seats(&key);
        let rotation_at = self.rotation_at(&key);
        let Some(group) = self.groups.get_mut(&key) else { return };
        // Those who come first, so that somebody is there at each moment.
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

    /// Who is to be in rotation.
    pub(crate) fn rotation_at(&self, key: &Key) -> BTreeSet<QueueId> {
        let here = || self.queues.iter().filter(|queue| queue.key == *key && queue.member.is_some());
        let served = self.best_served(here());
        if !served.is_empty() {
            return served;
        }
        let may_get = |run: Run| self.is_included(run) && !self.must_stay_empty(run, key);
        let becomes = |queue: &Queue| queue.holders.iter().any(|holder| may_get(holder.run));
        let waits = here().filter(|queue| queue.is_vacant() || becomes(queue));
        let listens = waits.filter(|queue| !queue.key.tcp || reuseport::listens(&queue.socket));
        // The one that is it stays it: what waits shall wait together.
        let door = listens.max_by_key(|queue| (self.is_in_rotation(queue), queue.waiting()));
        door.map(|queue| queue.id).into_iter().collect()
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
        let was_withheld = self.not_ready.remove(&run);
        if !self.ejected.remove(&run) && !was_withheld {
            return;
        }
        for key in self.keys_of(run) {
            self.update_rotation(key);
            self.migrate_waiting(key);
        }
        self.save();
        self.schedule_orphan_check();
    }

    pub(crate) fn is_served_queue(&self, queue: &Queue) -> bool {
        self.is_accepted_by(queue, |run| !self.not_ready.contains(&run))
    }

    /// True if somebody accepts there of whom this holds, and who is not on his way out.
    pub(crate) fn is_accepted_by(&self, queue: &Queue, by: impl Fn(Run) -> bool) -> bool {
        let accepts = |holder: &Holder| holder.listens && self.is_included(holder.run) && by(holder.run);
        queue.member.is_some()
            && queue.holders.iter().any(accepts)
            && (!queue.key.tcp || reuseport::listens(&queue.socket))
    }

    /// The queues among these that somebody serves who is well; with none, those that anybody serves.
    pub(crate) fn best_served<'a>(&self, queues: impl Iterator<Item = &'a Queue>) -> BTreeSet<QueueId> {
        let served: Vec<&Queue> = queues.filter(|queue| self.is_served_queue(queue)).collect();
        let all = || served.iter().map(|queue| queue.id).collect();
        if self.ejected.is_empty() {
            return all();
        }
        let is_good = |run: Run| !self.not_ready.contains(&run) && !self.ejected.contains(&run);
        let good: BTreeSet<QueueId> =
            served.iter().filter(|queue| self.is_accepted_by(queue, is_good)).map(|queue| queue.id).collect();
        if good.is_empty() { all() } else { good }
    }

    /// True if this worker is to stay without what waits, too, since that can be moved to it.
    pub(crate) fn must_stay_empty(&self, run: Run, key: &Key) -> bool {
        let moves = || match self.groups.get(key) {
            Some(group) => group.kernel.migrates(),
            None => key.tcp && self.best_balancing == KernelBalancing::RoundRobin && reuseport::can_migrate(),
        };
        self.not_ready.contains(&run) && moves()
    }

    /// Before the first socket of an address listens: so that nothing gets to it even for a moment.
    pub(crate) fn open_placeholder_before(&mut self, run: Run, key: Key) {
        let is_first = self.groups.get(&key).is_none_or(|group| group.kernel.members().next().is_none());
        if is_first
            && self.must_stay_empty(run, &key)
            && let Err(error) = self.open_placeholder(key)
        {
            tracing::debug!(address = %key.address, %error, "no door can be opened");
        }
    }

    /// From now on the kernel deals like this, as far as it can.
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

    /// This is the worker's number among the app's processes.
    pub(crate) fn set_instance(&mut self, run: Run, instance: u32) {
        if self.instances.insert(run, instance) != Some(instance) && self.held_by(run).next().is_some() {
            self.update_rotation_of(run);
            self.save();
        }
    }

    /// Tells the group at this address whose clients each queue has.
    pub(crate) fn assign_seats(&mut self, key: &Key) {
        let here = self.queues.iter().filter(|queue| queue.key == *key);
        let seats: Vec<_> = here.filter_map(|queue| Some((queue.member?, self.seat(queue)))).collect();
        if let Some(group) = self.groups.get_mut(key) {
            seats.into_iter().for_each(|(member, seat)| group.kernel.set_seat(member, seat));
        }
    }

    /// That of the worker that came last; none for a queue without a worker, in which clients only wait.
    fn seat(&self, queue: &Queue) -> Option<Seat> {
        let run = queue.holders.iter().map(|holder| holder.run).max()?;
        Some(Seat { number: self.instances.get(&run).copied()?, rank: run.0 })
    }

    /// What becomes of connections that no worker is ready for. Those that wait go on waiting.
    pub(crate) fn set_rule(&mut self, rule: QueueRule) {
        self.rule = rule;
        if rule.timeout.is_none() {
            self.queues.iter_mut().for_each(|queue| queue.shedder.stop());
        }
        let keys: Vec<Key> = self.groups.keys().copied().collect();
        keys.iter().for_each(|key| self.update_shedders(key));
    }

    /// Looks after the queues at an address if nobody serves there. To be called after each change. Until the rule is
    /// known, what another God knew stays.
    pub(crate) fn update_shedders(&mut self, key: &Key) {
        if self.rule.timeout.is_none() || !key.tcp {
            return;
        }
        let (unserved, rule, me) = (!self.is_served(key), self.rule, self.me.clone());
        let alone = |queue: &Queue| queue.member.is_some() && queue.holders.iter().all(|holder| !holder.listens);
        for queue in self.queues.iter_mut().filter(|queue| queue.key == *key) {
            if unserved && alone(queue) {
                let (me, id) = (me.clone(), queue.id);
                queue.shedder.start(&queue.socket, rule, move |arrivals| keep(&me, id, arrivals));
            } else {
                queue.shedder.stop();
            }
        }
    }
}

/// Writes down since when connections wait there.
fn keep(state: &WeakQueueTable, id: QueueId, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(queue) = state.queues.iter_mut().find(|queue| queue.id == id) {
        queue.shedder.set_arrivals(arrivals);
        state.save();
    }
}
