//! A connection of the daemon to the queue of one worker, past the rotation. The port is shared, so an ordinary
//! connection would reach any of the workers. See [`crate::os::net::reuseport::Group::route`].

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Weak;

use super::queue::Queue;
use super::table::{QueueTable, WeakQueueTable};
use crate::cluster::own_connections::{OwnConnection, Target};
use crate::cluster::own_connections::{Unreachable, bind_client};
use crate::os::net::reuseport::{Key, MemberId, Order, Unroutable};
use crate::protocol::Run;

/// A connection that certainly is in the queue of one worker.
#[derive(Debug)]
pub(crate) struct DirectConnection {
    pub(crate) connection: OwnConnection,
    /// The address that the worker listens on.
    pub(crate) at: SocketAddr,
}

/// See [`super::Queues::connect_to`]. Waits while the worker's queue is full.
pub(crate) async fn connect_to(
    state: WeakQueueTable,
    run: Run,
    at: Option<Key>,
) -> Result<DirectConnection, Unreachable> {
    loop {
        let (key, member) = state.upgrade().ok_or(Unreachable::Nowhere)?.borrow().own_queue(run, at)?;
        if let Some(connection) = connect(&state, key, member).await? {
            return Ok(DirectConnection { connection, at: key.address });
        }
    }
}

/// `None` if the route ceased to hold while we connected, so that the connection may have reached another worker.
async fn connect(state: &WeakQueueTable, key: Key, member: MemberId) -> Result<Option<OwnConnection>, Unreachable> {
    let mut missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for to in key.reachable() {
        match bind_client(to) {
            Ok((socket, _)) if !key.is_reachable_from(&socket) => return Err(Unreachable::Elsewhere),
            Ok((socket, from)) => {
                let route = Route::open(state, key, member, from.port())?;
                let own = state.upgrade().ok_or(Unreachable::Nowhere)?.borrow().own_connections.clone();
                let connection = own.connect((socket, from), to, Target::Worker).await?;
                return Ok(route.held().then_some(connection));
            }
            Err(error) => missing = error,
        }
    }
    Err(missing.into())
}

/// Directs connections from one client port to one member of a group, until it is dropped.
struct Route {
    state: Weak<RefCell<QueueTable>>,
    key: Key,
    port: u16,
    order: Order,
}

impl Route {
    fn open(shared: &WeakQueueTable, key: Key, member: MemberId, port: u16) -> Result<Route, Unreachable> {
        let state = shared.upgrade().ok_or(Unreachable::Nowhere)?;
        let mut state = state.borrow_mut();
        let group = state.groups.get_mut(&key).ok_or(Unreachable::Nowhere)?;
        match group.kernel.route(port, member) {
            Ok(order) => Ok(Route { state: shared.clone(), key, port, order }),
            Err(Unroutable::NotNow) => Err(Unreachable::NotNow),
            Err(Unroutable::Never) => Err(Unreachable::ByHash),
        }
    }

    /// True if a connection from the port since [`Route::open`] has certainly reached the member.
    fn held(&self) -> bool {
        let Some(state) = self.state.upgrade() else { return false };
        let mut state = state.borrow_mut();
        state.groups.get_mut(&self.key).is_some_and(|group| group.kernel.is_in(self.order))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade()
            && let Some(group) = state.borrow_mut().groups.get_mut(&self.key)
        {
            group.kernel.unroute(self.port);
        }
    }
}

impl QueueTable {
    /// The worker's TCP queue at this address, or the first of its TCP queues that listens, in the order in which they were
    /// bound.
    pub(crate) fn listening_queue(&self, run: Run, at: Option<Key>) -> Option<(&Queue, MemberId)> {
        let mut all = self.held_by(run).filter(|queue| queue.key.tcp && at.is_none_or(|at| at == queue.key));
        all.find_map(|queue| Some((queue, queue.member?)))
    }

    /// The same, if no other worker accepts from it.
    fn own_queue(&self, run: Run, at: Option<Key>) -> Result<(Key, MemberId), Unreachable> {
        let (queue, member) = self.listening_queue(run, at).ok_or(Unreachable::Nowhere)?;
        if queue.holders.len() > 1 { Err(Unreachable::Shared) } else { Ok((queue.key, member)) }
    }
}
