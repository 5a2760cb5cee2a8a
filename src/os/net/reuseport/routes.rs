//! Connections that bypass the rotation: those of the daemon to one member, in rotation or not.
//!
//! The daemon first binds the connecting socket to a port, so that no other socket has the port, and tells the program
//! in the kernel which member the port is for. The port alone is not enough: a client on another machine may have the
//! same one. So the connection must also come from the same address that it goes to, which is possible only on this
//! machine.
//!
//! The kernel chooses a socket when the first packet of the connection arrives. Routes are needed only for that moment.
//! They are not recorded, and the next God begins without any.

use super::balancing::KernelBalancing;
use super::group::{Group, MemberId, Route};
use super::program::ROUTES;
use super::shared::has_connections;

/// Why a member cannot be reached past the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// The kernel's hash decides alone, or the sockets have no connections (UDP).
    Never,
    /// The member's index in the kernel's list is not known for the moment, or there are too many routes.
    NotNow,
}

/// A state of the kernel's list of sockets. It stays the same until a member leaves the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order(pub(super) u64);

impl Group {
    /// Sends connections that come from this port, and from the address that they go to, to this member. A connection
    /// surely went there if the group is still in the returned order ([`Group::is_in`]) when it is established.
    ///
    /// # Errors
    /// See [`Unroutable`].
    pub fn route(&mut self, port: u16, to: MemberId) -> Result<Order, Unroutable> {
        self.notice_leavers();
        let member = self.members.iter().find(|member| member.id == to).ok_or(Unroutable::Never)?;
        let known = match (self.balancer, &self.extended) {
            (KernelBalancing::RoundRobin, Some(extended)) => extended.has_routes(),
            (KernelBalancing::RoundRobin, None) | (KernelBalancing::Hash, _) => false,
            (KernelBalancing::Random, _) => has_connections(&member.socket),
        };
        if !known {
            return Err(Unroutable::Never);
        }
        let by_index = self.balancer == KernelBalancing::Random;
        let slot = self.routes.iter_mut().find(|slot| slot.is_none()).filter(|_| member.sure || !by_index);
        *slot.ok_or(Unroutable::NotNow)? = Some(Route { port, to });
        self.steer();
        Ok(self.order())
    }

    /// Removes the route of this port.
    pub fn unroute(&mut self, port: u16) {
        self.routes
            .iter_mut()
            .filter(|slot| slot.is_some_and(|route| route.port == port))
            .for_each(|slot| *slot = None);
        self.steer();
    }

    /// True if no member has left the kernel's list since.
    pub fn is_in(&mut self, order: Order) -> bool {
        self.notice_leavers();
        self.order() == order
    }

    fn order(&self) -> Order {
        Order(self.departures)
    }

    /// The routes: port, and what `named` returns for the index of the member.
    pub(super) fn routes(&self, named: impl Fn(usize) -> Option<u32>) -> [Option<(u16, u32)>; ROUTES] {
        self.routes.map(|slot| {
            let Route { port, to } = slot?;
            let index = self.members.iter().position(|member| member.id == to)?;
            Some((port, named(index)?))
        })
    }

    /// The index of a member in the kernel's list, if it is known.
    pub(super) fn sure_index(&self, index: usize) -> Option<u32> {
        self.members[index].sure.then(|| u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// True if the balancer was made by an older version, which had no routes.
    pub(super) fn lacks_routes(&self) -> bool {
        let (Some(extended), Some(member)) = (&self.extended, self.members.first()) else { return false };
        !extended.has_routes() && has_connections(&member.socket)
    }
}
