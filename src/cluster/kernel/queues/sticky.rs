//! Clients that each have a worker of their own: by the number of the worker among the app's processes, so that its
//! successor inherits them.

use super::queue::Queue;
use super::state::State;
use crate::os::net::reuseport::{Deal, Key, Seat};
use crate::protocol::Run;

impl State {
    /// From now on the kernel deals like this, as far as it can.
    pub(crate) fn set_deal(&mut self, deal: Deal) {
        self.deal = deal;
        let mut changed = false;
        for place in self.places.values_mut().filter(|place| place.group.deal() != deal) {
            place.group.set_deal(deal);
            place.keep_files(&self.store);
            changed = true;
        }
        if changed {
            self.note();
        }
    }

    /// This is the worker's number among the app's processes.
    pub(crate) fn number(&mut self, run: Run, instance: u32) {
        if self.instances.insert(run, instance) != Some(instance) && self.held_by(run).next().is_some() {
            self.steer_those_of(run);
            self.note();
        }
    }

    /// Tells the group at this address whose clients each queue has.
    pub(crate) fn seat_those_at(&mut self, key: &Key) {
        let here = self.queues.iter().filter(|queue| queue.key == *key);
        let seats: Vec<_> = here.filter_map(|queue| Some((queue.member?, self.seat(queue)))).collect();
        if let Some(place) = self.places.get_mut(key) {
            seats.into_iter().for_each(|(member, seat)| place.group.set_seat(member, seat));
        }
    }

    /// That of the worker that came last; none for a queue without a worker, in which clients only wait.
    fn seat(&self, queue: &Queue) -> Option<Seat> {
        let run = queue.holders.iter().map(|holder| holder.run).max()?;
        Some(Seat { number: self.instances.get(&run).copied()?, rank: run.0 })
    }
}
