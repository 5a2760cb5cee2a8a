//! Which queues nobody serves, so that who waits there for too long is turned away.

use super::queue::{Queue, QueueId};
use super::state::{Shared, State};
use crate::cluster::waiting::Arrivals;
use crate::os::net::reuseport::Key;
use crate::spec::QueueRule;

impl State {
    /// What becomes of connections that no worker is ready for. Those that wait go on waiting.
    pub(crate) fn set_rule(&mut self, rule: QueueRule) {
        self.rule = rule;
        if rule.timeout.is_none() {
            self.queues.iter_mut().for_each(|queue| queue.shedder.rest());
        }
        let keys: Vec<Key> = self.places.keys().copied().collect();
        keys.iter().for_each(|key| self.look_out(key));
    }

    /// Looks after the queues at an address if nobody serves there. To be called after each change. Until the rule is
    /// known, what another God knew stays.
    pub(crate) fn look_out(&mut self, key: &Key) {
        if self.rule.timeout.is_none() || !key.tcp {
            return;
        }
        let (unserved, rule, me) = (!self.is_served(key), self.rule, self.me.clone());
        let alone = |queue: &Queue| queue.member.is_some() && queue.holders.iter().all(|holder| !holder.listens);
        for queue in self.queues.iter_mut().filter(|queue| queue.key == *key) {
            if unserved && alone(queue) {
                let (me, id) = (me.clone(), queue.id);
                queue.shedder.watch(&queue.socket, rule, move |arrivals| keep(&me, id, arrivals));
            } else {
                queue.shedder.rest();
            }
        }
    }
}

/// Writes down since when connections wait there.
fn keep(state: &Shared, id: QueueId, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(queue) = state.queues.iter_mut().find(|queue| queue.id == id) {
        queue.shedder.set_arrivals(arrivals);
        state.note();
    }
}
