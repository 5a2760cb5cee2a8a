//! Who waits too long at a Unix path while no worker serves. What waits at other addresses is looked after with the queues
//! ([`crate::cluster::kernel::queues`]).
//!
//! All workers accept from the one socket, those who are not ready yet, too; so it is looked at how many wait, and only
//! what nobody has taken for the whole time is taken from under their hands.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Weak;

use super::{Activation, State};
use crate::cluster::waiting::Arrivals;
use crate::spec::QueueRule;

impl Activation {
    /// What becomes of connections that no worker is ready for. Those that wait go on waiting.
    pub(crate) fn set_rule(&self, rule: QueueRule) {
        let mut state = self.state.borrow_mut();
        state.rule = Some(rule);
        state.look_out();
    }
}

impl State {
    /// Looks after the doors if nobody serves. To be called after each change. Until the rule is known, what another God
    /// knew stays.
    pub(crate) fn look_out(&mut self) {
        let Some(rule) = self.rule else { return };
        let served = self.workers.values().any(|worker| worker.serves && !worker.excluded);
        for door in &mut self.doors {
            if served || rule.timeout.is_none() {
                door.shedder.rest();
                continue;
            }
            let (me, path) = (self.me.clone(), door.path().to_owned());
            door.watch(rule, move |arrivals| keep(&me, &path, arrivals));
        }
    }
}

/// Writes down since when connections wait there.
fn keep(state: &Weak<RefCell<State>>, path: &Path, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(door) = state.doors.iter_mut().find(|door| door.path() == path) {
        door.shedder.set_arrivals(arrivals);
        state.note();
    }
}
