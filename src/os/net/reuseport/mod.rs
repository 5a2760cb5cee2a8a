//! Sockets of several processes on one port (`SO_REUSEPORT`), each with a queue of its own, and a say in which of them
//! the next connection goes to.
//!
//! A [`Group`] holds a copy of every socket that shares an address, so that a queue outlives the process that served
//! it, and so that no socket leaves the kernel's list without our knowing. In front of them is a program in the kernel:
//!
//! | balancer | takes | connections | UDP |
//! |---|---|---|---|
//! | [`KernelBalancing::RoundRobin`] | `CAP_BPF` | in turn | by client |
//! | [`KernelBalancing::Random`] | nothing | by chance | by client |
//! | [`KernelBalancing::Hash`] | nothing, the kernel's own | by client address and port, nobody can be excluded | same |
//!
//! With [`Deal::ByAddress`] the first two deal both by the client's address alone: each has a member of its own, and that
//! member's successor inherits it (see `rotation`). `Hash` cannot.
//!
//! A member that is excluded gets nothing new; what it has, and what waits in its queue, goes on. A connection of our own
//! can be made to any of them: see `routes`.
//!
//! ## The kernel's list
//!
//! `Random` names a socket by its index, so the order is kept as the kernel keeps it (`net/core/sock_reuseport.c`): a
//! TCP socket is appended when it *listens*, a UDP socket when it is bound; when one leaves, the last one moves into its
//! place. A program can take its socket out by `shutdown` although we have a copy: see `order`.

mod bpf;
mod classic;
mod extended;
mod order;
mod program;
mod record;
pub mod rendezvous;
mod rotation;
mod routes;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::net::sockopt::socket_type;
use rustix::net::{Shutdown, SocketType, listen, shutdown};
use serde::{Deserialize, Serialize};

use extended::{Extended, PLACES};
pub use record::Record;
pub use rotation::{Deal, Seat};
pub use routes::{Order, Unroutable};
use routes::{ROUTES, Route};
use shared::set_option;
pub use shared::{Key, carry_options, is_multipath, is_shared, listens, share, single_path};

/// The shortest queue a shared TCP socket gets, whatever the program asks for: Python's 5 makes clients wait for
/// seconds under load. The kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 1024;

/// One socket of a group. Never used twice in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId(u32);

/// How it is decided who gets the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelBalancing {
    /// By the kernel's hash of addresses and ports.
    Hash,
    /// By chance, among those in rotation.
    Random,
    /// In turn, among those in rotation.
    RoundRobin,
}

/// Why it is not the one before it in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is the one that was wanted.
    Wanted,
    /// The kernel refused the better one with this `errno`: `EPERM` without `CAP_BPF`, `EOPNOTSUPP` for MPTCP.
    Refused(i32),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Wanted => f.write_str("as wanted"),
            Reason::Refused(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

/// What there is to deal, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// Connections: by themselves each is dealt anew.
    Connections(Deal),
    /// Datagrams: by themselves those from one client's socket stay together.
    Datagrams(Deal),
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    socket: OwnedFd,
    /// In the table of [`Extended`].
    place: u32,
    included: bool,
    /// Its program was told to stop, and may take it out at any moment.
    leaving: bool,
    /// Its index is known.
    sure: bool,
    /// Whose clients it has, if it has any.
    seat: Option<Seat>,
}

/// All sockets with one [`Key`].
#[derive(Debug)]
pub struct Group {
    /// In the order of the kernel's list, but for those of which that is not sure.
    members: Vec<Member>,
    next: u32,
    at_most: KernelBalancing,
    deal: Deal,
    extended: Option<Extended>,
    balancer: KernelBalancing,
    reason: Reason,
    routes: [Option<Route>; ROUTES],
    /// How many members have left the kernel's list.
    departures: u64,
}

impl Group {
    /// An empty one, with the best balancer there is up to this.
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

    /// The balancer in force, and why it is no better one.
    #[must_use]
    pub fn balancer(&self) -> (KernelBalancing, &Reason) {
        (self.balancer, &self.reason)
    }

    /// Listens on a bound TCP socket, with a queue of at least [`BACKLOG`], and takes it in; a UDP socket, which was
    /// bound just now, is only taken in. It gets connections from now on, if `included`. One that is a member already
    /// listens again, with another backlog, and is the member it was.
    ///
    /// # Errors
    /// What `listen` says: it is the answer to the program, and nothing has changed.
    pub fn add(&mut self, socket: OwnedFd, backlog: i32, included: bool) -> io::Result<MemberId> {
        self.notice_leavers();
        let known = self.find(&socket)?;
        if socket_type(&socket)? == SocketType::STREAM {
            listen(&socket, backlog.max(BACKLOG))?;
        }
        if let Some(known) = known {
            return Ok(known);
        }
        let id = MemberId(self.next);
        self.next += 1;
        let place = (0..).find(|place| self.members.iter().all(|member| member.place != *place)).unwrap_or(0);
        self.members.push(Member { id, socket, place, included, leaving: false, sure: true, seat: None });
        self.choose();
        Ok(id)
    }

    /// The member whose socket this is a descriptor of.
    ///
    /// # Errors
    /// If it is no socket.
    pub fn find(&self, socket: impl AsFd) -> io::Result<Option<MemberId>> {
        let inode = inode(socket)?;
        Ok(self.members.iter().find(|member| inode_of(member) == Some(inode)).map(|member| member.id))
    }

    /// Takes a member out of rotation. While nobody is left in it, connections go to all.
    pub fn exclude(&mut self, id: MemberId) {
        self.set_included(id, false);
    }

    /// Takes a member into rotation again.
    pub fn include(&mut self, id: MemberId) {
        self.set_included(id, true);
    }

    /// Takes a member out of rotation whose program is about to be told to stop.
    pub fn leave(&mut self, id: MemberId) {
        self.change(id, |member| (member.included, member.leaving) = (false, true));
    }

    fn set_included(&mut self, id: MemberId, included: bool) {
        self.change(id, |member| (member.included, member.leaving) = (included, member.leaving && !included));
    }

    fn change(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        self.notice_leavers();
        self.members.iter_mut().find(|member| member.id == id).map(change);
        self.steer();
    }

    /// Takes a socket out for good. What waits in its queue moves to the others if the kernel does that: with
    /// `RoundRobin` since Linux 5.14, else with the sysctl `tcp_migrate_req`. Otherwise it is reset.
    ///
    /// A TCP socket stops listening, also for whoever else has it. Of a UDP socket all other copies must be closed.
    pub fn remove(&mut self, id: MemberId) {
        self.notice_leavers();
        let Some(at) = self.members.iter().position(|member| member.id == id) else { return };
        // First a table that holds before and after: without the two whose indices change.
        self.members[at].included = false;
        let last = self.members.len() - 1;
        let stays = |member: &Member, index: usize| member.included && index != last;
        if self.members.iter().enumerate().any(|(index, member)| stays(member, index)) {
            self.steer_among(stays);
        } else {
            self.steer();
        }
        for gone in self.forget(&[at]) {
            self.clear(&gone);
            // UDP knows no such state.
            let _ = shutdown(&gone.socket, Shutdown::Both);
        }
        self.steer();
    }

    /// Our copy of a member's socket.
    #[must_use]
    pub fn socket(&self, id: MemberId) -> Option<BorrowedFd<'_>> {
        self.members.iter().find(|member| member.id == id).map(|member| member.socket.as_fd())
    }

    /// The members, and whether each is in rotation.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, bool)> + '_ {
        self.members.iter().map(|member| (member.id, member.included))
    }

    /// True if what waits in the queue of a socket that is removed moves to the others.
    #[must_use]
    pub fn migrates(&self) -> bool {
        self.extended.as_ref().is_some_and(Extended::migrates)
    }

    /// How many connections were dealt in turn since the group was made; `None` with the other balancers.
    #[must_use]
    pub fn dealt(&self) -> Option<u64> {
        self.extended.as_ref()?.placed().ok()
    }

    /// Forgets those whose programs shut their sockets down: the kernel has done so.
    fn notice_leavers(&mut self) {
        let has_left = |member: &Member| {
            socket_type(&member.socket).is_ok_and(|kind| kind == SocketType::STREAM) && !listens(&member.socket)
        };
        let gone: Vec<usize> = (0..self.members.len()).filter(|at| has_left(&self.members[*at])).collect();
        if gone.is_empty() {
            return;
        }
        for member in self.forget(&gone) {
            self.clear(&member);
        }
        self.steer();
    }

    fn clear(&self, gone: &Member) {
        if let Some(extended) = &self.extended {
            extended.clear(gone.place);
        }
    }

    /// Brings a new member under the balancer, or the group under its first one.
    fn choose(&mut self) {
        if self.members.len() == 1 {
            // The kernel's group is a new one.
            self.extended = None;
            (self.balancer, self.reason) = (self.at_most, Reason::Wanted);
        }
        if self.balancer == KernelBalancing::RoundRobin
            && let Err(error) = self.extend()
        {
            self.fall_back(KernelBalancing::Random, refused(&error));
        }
        self.steer();
    }

    fn extend(&mut self) -> io::Result<()> {
        let Some(newest) = self.members.last() else { return Ok(()) };
        if self.extended.is_none() {
            let extended = Extended::load(self.spread(&newest.socket))?;
            extended.attach(&newest.socket)?;
            self.extended = Some(extended);
        }
        match &self.extended {
            Some(extended) if (newest.place as usize) < PLACES => extended.place(newest.place, &newest.socket),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        }
    }

    fn fall_back(&mut self, balancer: KernelBalancing, reason: Reason) {
        self.extended = None;
        (self.balancer, self.reason) = (balancer, reason);
    }
}

/// True if groups of TCP sockets with the best balancer there is move what waits in a queue that is removed.
#[must_use]
pub fn can_migrate() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| Extended::load(Spread::Connections(Deal::Each)).is_ok_and(|extended| extended.migrates()))
}

fn refused(error: &io::Error) -> Reason {
    Reason::Refused(error.raw_os_error().unwrap_or(libc::EIO))
}

/// False for UDP.
fn has_connections(socket: impl AsFd) -> bool {
    !socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
}

fn inode(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

fn inode_of(member: &Member) -> Option<u64> {
    inode(&member.socket).ok()
}
