//! Workers that listen and are not ready: nothing goes to their queues until they are.
//!
//! Connections then go to those who serve. While nobody does, they wait at a door of ours, which the worker does not
//! inherit; when it is ready, the kernel moves them to it. Where the kernel moves none (no `CAP_BPF`, or before Linux
//! 5.14), whatever waits would wait for ever, so there the first worker takes what comes as soon as it accepts.

use super::state::State;
use crate::os::reuseport::{self, Balancer, Key};
use crate::protocol::Run;

impl State {
    pub(super) fn withhold(&mut self, run: Run) {
        if self.withheld.insert(run) {
            self.steer_those_of(run);
            self.note();
        }
    }

    pub(super) fn admit(&mut self, run: Run) {
        if !self.withheld.remove(&run) {
            return;
        }
        for key in self.keys_of(run) {
            self.steer(key);
            self.move_waiting(key);
        }
        self.note();
        self.look_again();
    }

    /// True if this worker is to stay without what waits, too, since that can be moved to it.
    pub(super) fn goes_without(&self, run: Run, key: &Key) -> bool {
        let moves = || match self.places.get(key) {
            Some(place) => place.group.migrates(),
            None => key.tcp && self.at_most == Balancer::RoundRobin && reuseport::can_migrate(),
        };
        self.withheld.contains(&run) && moves()
    }

    /// Before the first socket of an address listens: so that nothing gets to it even for a moment.
    pub(super) fn shut_out(&mut self, run: Run, key: Key) {
        let is_first = self.places.get(&key).is_none_or(|place| place.group.members().next().is_none());
        if is_first
            && self.goes_without(run, &key)
            && let Err(error) = self.open_door(key)
        {
            tracing::debug!(address = %key.address, %error, "no door can be opened");
        }
    }
}
