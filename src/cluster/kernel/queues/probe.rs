//! A connection of our own to one worker's queue, past the rotation: the port is shared, and would answer for somebody
//! else. See [`crate::os::net::reuseport::Group::route`].

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Weak;

use super::state::{Shared, State};
use crate::cluster::dealt::probe::{Unreachable, client};
use crate::cluster::own_connections::{Call, Road};
use crate::os::net::reuseport::{Key, MemberId, Order, Unroutable};
use crate::protocol::Run;

/// A connection to one worker alone.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) call: Call,
    /// Where the worker listens.
    pub(crate) at: SocketAddr,
}

/// See [`super::Queues::visit`]. Ends when the worker's queue has room.
pub(crate) async fn visit(state: Shared, run: Run) -> Result<Visit, Unreachable> {
    loop {
        let (key, member) = state.upgrade().ok_or(Unreachable::Nowhere)?.borrow().own_queue(run)?;
        if let Some(call) = connect(&state, key, member).await? {
            return Ok(Visit { call, at: key.address });
        }
    }
}

/// `None` if it may have become somebody else's.
async fn connect(state: &Shared, key: Key, member: MemberId) -> Result<Option<Call>, Unreachable> {
    let mut missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for to in key.reachable() {
        match client(to) {
            Ok((socket, _)) if !key.is_reachable_from(&socket) => return Err(Unreachable::Elsewhere),
            Ok((socket, from)) => {
                let route = Route::open(state, key, member, from.port())?;
                let calls = state.upgrade().ok_or(Unreachable::Nowhere)?.borrow().calls.clone();
                let call = calls.call((socket, from), to, Road::Routed).await?;
                return Ok(route.held().then_some(call));
            }
            Err(error) => missing = error,
        }
    }
    Err(missing.into())
}

/// A port's way to a member, as long as this lives.
struct Route {
    state: Weak<RefCell<State>>,
    key: Key,
    port: u16,
    order: Order,
}

impl Route {
    fn open(shared: &Shared, key: Key, member: MemberId, port: u16) -> Result<Route, Unreachable> {
        let state = shared.upgrade().ok_or(Unreachable::Nowhere)?;
        let mut state = state.borrow_mut();
        let place = state.places.get_mut(&key).ok_or(Unreachable::Nowhere)?;
        match place.group.route(port, member) {
            Ok(order) => Ok(Route { state: shared.clone(), key, port, order }),
            Err(Unroutable::NotNow) => Err(Unreachable::NotNow),
            Err(Unroutable::Never) => Err(Unreachable::ByHash),
        }
    }

    /// True if what has come by it has surely come to the member.
    fn held(&self) -> bool {
        let Some(state) = self.state.upgrade() else { return false };
        let mut state = state.borrow_mut();
        state.places.get_mut(&self.key).is_some_and(|place| place.group.is_in(self.order))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade()
            && let Some(place) = state.borrow_mut().places.get_mut(&self.key)
        {
            place.group.unroute(self.port);
        }
    }
}

impl State {
    /// The first of a worker's queues, in the order it bound them.
    fn own_queue(&self, run: Run) -> Result<(Key, MemberId), Unreachable> {
        let mut all = self.held_by(run).filter(|queue| queue.key.tcp);
        let (queue, member) = all.find_map(|queue| Some((queue, queue.member?))).ok_or(Unreachable::Nowhere)?;
        if queue.holders.len() > 1 { Err(Unreachable::Shared) } else { Ok((queue.key, member)) }
    }
}
