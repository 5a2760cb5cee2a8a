//! Who waits too long at a listener that workers accept from by themselves ([`crate::spec::Balance::Shared`]), while
//! none does.

use super::super::balancer::ListenerId;
use super::super::waiting::Arrivals;
use super::listener::Endpoint;
use super::state::{ClusterState, Shared};

impl ClusterState {
    /// Looks after such listeners if nobody serves there. To be called after each change.
    pub(crate) fn look_out(&mut self) {
        let (rule, balancer) = (self.options.queue, &self.balancer);
        for listener in self.listeners.values_mut() {
            let served = listener.holders.iter().any(|holder| balancer.rotates(holder.run));
            let (me, id) = (self.me.clone(), listener.id);
            match &mut listener.endpoint {
                Endpoint::Shared { shedder, udp: false, .. } if served || rule.timeout.is_none() => shedder.rest(),
                Endpoint::Shared { shedder, socket, udp: false, .. } => {
                    shedder.watch(&**socket, rule, move |arrivals| keep(&me, id, arrivals));
                }
                Endpoint::Shared { udp: true, .. } | Endpoint::Dealt(_) => {}
            }
        }
    }
}

/// Writes down since when connections wait there.
fn keep(state: &Shared, id: ListenerId, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(Endpoint::Shared { shedder, .. }) = state.listeners.get_mut(&id).map(|known| &mut known.endpoint) {
        shedder.set_arrivals(arrivals);
        state.note();
    }
}
