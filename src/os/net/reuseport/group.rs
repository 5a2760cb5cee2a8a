//! A group and its members, as values. What is done with them is in the files that use this one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::balancing::{KernelBalancing, Reason};
use super::deal::{Deal, Seat};
use super::extended::Extended;
use super::program::ROUTES;

/// Number of a socket in its group. A number is not used again after its member has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) socket: OwnedFd,
    /// Position in the socket map of [`Extended`]; it stays the same while the member is in the group.
    pub(super) place: u32,
    /// In rotation: it gets new connections.
    pub(super) included: bool,
    /// Its program got its stop signal, and may shut the socket down at any moment.
    pub(super) leaving: bool,
    /// Its index in the kernel's list is known, see `order`.
    pub(super) sure: bool,
    /// The clients that belong to it, if it has any.
    pub(super) seat: Option<Seat>,
}

/// A connection from this port goes to this member, see `routes`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) port: u16,
    pub(super) to: MemberId,
}

/// All sockets with one [`Key`](super::Key).
#[derive(Debug)]
pub struct Group {
    /// In the order of the kernel's list, except for members whose index is not known.
    pub(super) members: Vec<Member>,
    /// Number of the next member.
    pub(super) next: u32,
    /// The best balancer that the group may have.
    pub(super) at_most: KernelBalancing,
    pub(super) deal: Deal,
    /// Present while the balancer is [`KernelBalancing::RoundRobin`].
    pub(super) extended: Option<Extended>,
    pub(super) balancer: KernelBalancing,
    pub(super) reason: Reason,
    pub(super) routes: [Option<Route>; ROUTES],
    /// How many times members have left the kernel's list.
    pub(super) departures: u64,
}

impl Group {
    /// An empty group, which is to get the best balancer up to `at_most` that the kernel allows.
    #[must_use]
    pub fn new(at_most: KernelBalancing) -> Group {
        Group {
            members: Vec::new(),
            next: 0,
            at_most,
            deal: Deal::Each,
            extended: None,
            balancer: KernelBalancing::Hash,
            reason: Reason::Wanted,
            routes: [None; ROUTES],
            departures: 0,
        }
    }

    /// The balancer in force, and why it is not a better one.
    #[must_use]
    pub fn balancer(&self) -> (KernelBalancing, &Reason) {
        (self.balancer, &self.reason)
    }

    /// How connections are dealt. With [`KernelBalancing::Hash`] this has no effect.
    #[must_use]
    pub fn deal(&self) -> Deal {
        self.deal
    }

    /// The group's own copy of a member's socket.
    #[must_use]
    pub fn socket(&self, id: MemberId) -> Option<BorrowedFd<'_>> {
        self.members.iter().find(|member| member.id == id).map(|member| member.socket.as_fd())
    }

    /// The members, and whether each is in rotation.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, bool)> + '_ {
        self.members.iter().map(|member| (member.id, member.included))
    }

    /// True if connections that wait in the queue of a removed socket move to the others.
    #[must_use]
    pub fn migrates(&self) -> bool {
        self.extended.as_ref().is_some_and(Extended::migrates)
    }

    /// How many connections were dealt in turn since the group was made; `None` with the other balancers.
    #[must_use]
    pub fn dealt(&self) -> Option<u64> {
        self.extended.as_ref()?.placed().ok()
    }

    pub(super) fn fall_back(&mut self, balancer: KernelBalancing, reason: Reason) {
        self.extended = None;
        (self.balancer, self.reason) = (balancer, reason);
    }
}
