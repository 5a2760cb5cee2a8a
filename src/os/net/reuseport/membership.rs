//! Sockets enter a group, leave rotation, and leave the group.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::net::sockopt::socket_type;
use rustix::net::{Shutdown, SocketType, listen, shutdown};

use super::balancing::{KernelBalancing, Reason};
use super::deal::{Deal, Spread};
use super::extended::Extended;
use super::group::{Group, Member, MemberId};
use super::program::PLACES;
use super::shared::listens;

/// The shortest queue that a shared TCP socket gets, whatever the program requests: Python's 5 makes clients wait for
/// seconds under load. The kernel limits it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 1024;

impl Group {
    /// Adds a socket. A bound TCP socket listens from now on, with a queue of at least [`BACKLOG`]. A UDP socket must
    /// have been bound just now. The new member gets connections from now on if it is `included`. A socket that is a
    /// member already listens again with the other backlog, and stays the same member.
    ///
    /// # Errors
    /// The error of `listen`, which is the answer to the program. The group is unchanged then.
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

    /// The member that has the same socket as this descriptor.
    ///
    /// # Errors
    /// If `fstat` fails.
    pub fn find(&self, socket: impl AsFd) -> io::Result<Option<MemberId>> {
        let inode = inode(socket)?;
        Ok(self.members.iter().find(|member| inode_of(member) == Some(inode)).map(|member| member.id))
    }

    /// Takes a member out of rotation. While no member is in rotation, connections go to all.
    pub fn exclude(&mut self, id: MemberId) {
        self.set_included(id, false);
    }

    /// Takes a member into rotation again.
    pub fn include(&mut self, id: MemberId) {
        self.set_included(id, true);
    }

    /// Takes a member out of rotation whose program is about to get its stop signal.
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

    /// Removes a member for good. Connections that wait in its queue move to the others if the kernel does that: with
    /// `RoundRobin` since Linux 5.14, else with the sysctl `tcp_migrate_req`. Otherwise they are reset.
    ///
    /// A TCP socket stops listening for all processes that have it. All other copies of a UDP socket must be closed.
    pub fn remove(&mut self, id: MemberId) {
        self.notice_leavers();
        let Some(at) = self.members.iter().position(|member| member.id == id) else { return };
        // First a table that is valid before and after the removal: without the two members whose indices change.
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
            // Fails for UDP, which has no such state.
            let _ = shutdown(&gone.socket, Shutdown::Both);
        }
        self.steer();
    }

    /// Forgets members whose programs have shut their sockets down: the kernel has removed them from its list.
    pub(super) fn notice_leavers(&mut self) {
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

    /// Brings a new member under the balancer, or chooses a balancer for the group's first member.
    fn choose(&mut self) {
        if self.members.len() == 1 {
            // The kernel's group is a new one.
            self.extended = None;
            (self.balancer, self.reason) = (self.at_most, Reason::Wanted);
        }
        if self.balancer == KernelBalancing::RoundRobin
            && let Err(error) = self.extend()
        {
            self.fall_back(KernelBalancing::Random, Reason::refused(&error));
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
}

/// True if groups of TCP sockets with the best available balancer move connections out of a queue that is removed.
#[must_use]
pub fn can_migrate() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| Extended::load(Spread::Connections(Deal::Each)).is_ok_and(|extended| extended.migrates()))
}

fn inode(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

fn inode_of(member: &Member) -> Option<u64> {
    inode(&member.socket).ok()
}
