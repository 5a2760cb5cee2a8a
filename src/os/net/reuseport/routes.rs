//! Connections that go past the rotation: those of our own to one member, whether it is in rotation or not.
//!
//! We bind the socket that will connect to a port first, so that nobody else has it, and tell the program in the kernel
//! which member that port is for. The port alone would not do: a client elsewhere may have the same one. So the
//! connection must also come from the very address that it goes to, which only one of this machine does.
//!
//! The kernel chooses when the connection's first packet comes. Routes are there for that moment only; none is written
//! down, and who comes after us begins without.

use super::balancing::KernelBalancing;
use super::group::{Group, MemberId, Route};
use super::program::ROUTES;
use super::shared::has_connections;

/// Why a member cannot be reached past the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Nobody but the kernel's hash decides here, or there are no connections.
    Never,
    /// Where it stands in the kernel's list is not known for the moment, or there are too many routes.
    NotNow,
}

/// The kernel's list of sockets as it is between two departures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order(pub(super) u64);

impl Group {
    /// From now on a connection from this port of the address that it goes to is for this member. It surely was if the
    /// group is still in this order ([`Group::is_in`]) when the connection stands.
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

    /// Nothing special about this port any more.
    pub fn unroute(&mut self, port: u16) {
        self.routes
            .iter_mut()
            .filter(|slot| slot.is_some_and(|route| route.port == port))
            .for_each(|slot| *slot = None);
        self.steer();
    }

    /// True if nobody has left the kernel's list since.
    pub fn is_in(&mut self, order: Order) -> bool {
        self.notice_leavers();
        self.order() == order
    }

    fn order(&self) -> Order {
        Order(self.departures)
    }

    /// The routes, each to what `named` calls its member.
    pub(super) fn routes(&self, named: impl Fn(usize) -> Option<u32>) -> [Option<(u16, u32)>; ROUTES] {
        self.routes.map(|slot| {
            let Route { port, to } = slot?;
            let index = self.members.iter().position(|member| member.id == to)?;
            Some((port, named(index)?))
        })
    }

    /// The members' indices in the kernel's list, where they are known.
    pub(super) fn sure_index(&self, index: usize) -> Option<u32> {
        self.members[index].sure.then(|| u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// True if the balancer was made by a version that knew no routes.
    pub(super) fn lacks_routes(&self) -> bool {
        let (Some(extended), Some(member)) = (&self.extended, self.members.first()) else { return false };
        !extended.has_routes() && has_connections(&member.socket)
    }
}
