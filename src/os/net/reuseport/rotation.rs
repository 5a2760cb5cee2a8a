//! Telling the kernel which members are in rotation, or with dealing by address, which member each client belongs to.
//!
//! Dealing by address uses the same programs and the same table. The table then has an entry for each bucket of clients
//! ([`rendezvous`](super::rendezvous)) instead of one for each member, and the client's address leads to the entry
//! instead of a counter or a random number. So when members come and go, the whole table is written again, and the
//! programs stay.
//!
//! With `Random`, a member that is not sure (see `order`) may change places with another such member, and their clients
//! with them. While the last member of the list is moved, its clients go to other members for some microseconds.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, getsockname};

use super::balancing::{KernelBalancing, Reason};
use super::classic;
use super::deal::{Deal, Seat, Spread};
use super::group::{Group, Member, MemberId};
use super::program::PLACES;
use super::rendezvous::{BUCKETS, FEW_BUCKETS, affinity};
use super::shared::has_connections;

/// The table has room for all buckets.
const _: () = assert!(BUCKETS as usize <= PLACES);

impl Member {
    /// Of the members in rotation, the one with the highest claim gets a bucket of clients. A member without a seat
    /// gets none while another member has a seat.
    fn claim(&self, bucket: u32) -> (Option<(u64, u64)>, MemberId) {
        (self.seat.map(|seat| (affinity(bucket.into(), seat.number), seat.rank)), self.id)
    }
}

impl Group {
    /// Changes what decides to which member a connection goes.
    pub fn set_deal(&mut self, deal: Deal) {
        if mem::replace(&mut self.deal, deal) == deal {
            return;
        }
        self.notice_leavers();
        if let Err(error) = self.renew() {
            self.fall_back(KernelBalancing::Random, Reason::refused(&error));
        }
        self.steer();
    }

    /// Sets which clients belong to a member, with [`Deal::ByAddress`]. A member without a seat gets clients only while
    /// no member in rotation has a seat.
    pub fn set_seat(&mut self, id: MemberId, seat: Option<Seat>) {
        let member = self.members.iter_mut().find(|member| member.id == id);
        if member.is_some_and(|member| mem::replace(&mut member.seat, seat) != seat) && self.deal == Deal::ByAddress {
            self.notice_leavers();
            self.steer();
        }
    }

    /// Tells the kernel which members are in rotation.
    pub(super) fn steer(&mut self) {
        self.steer_among(|member, _| member.included);
    }

    /// Tells the kernel which members are in rotation. With [`KernelBalancing::Random`] only the members for which
    /// `is_in` holds.
    pub(super) fn steer_among(&mut self, is_in: impl Fn(&Member, usize) -> bool) {
        if let Err(error) = self.steer_by_place() {
            self.fall_back(KernelBalancing::Random, Reason::refused(&error));
        }
        let Some(member) = self.members.first() else { return };
        let result = match self.balancer {
            KernelBalancing::RoundRobin => Ok(()),
            KernelBalancing::Random => self.steer_by_index(member, is_in),
            // Fails if no program is attached.
            KernelBalancing::Hash => {
                let _ = classic::detach(&member.socket);
                Ok(())
            }
        };
        if let Err(error) = result {
            self.fall_back(KernelBalancing::Hash, Reason::refused(&error));
        }
    }

    fn steer_by_place(&self) -> io::Result<()> {
        let Some(extended) = &self.extended else { return Ok(()) };
        let all = || 0..self.members.len();
        let mut among: Vec<usize> = all().filter(|at| self.members[*at].included).collect();
        if among.is_empty() {
            among = all().collect();
        }
        let places: Vec<u32> = self.table(among, BUCKETS).into_iter().map(|at| self.members[at].place).collect();
        extended.set_table(&places)?;
        extended.set_routes(&self.routes(|index| Some(self.members[index].place)))
    }

    fn steer_by_index(&self, first: &Member, is_in: impl Fn(&Member, usize) -> bool) -> io::Result<()> {
        let table = self.table(self.indices(is_in), FEW_BUCKETS);
        let indices: Vec<u32> = table.into_iter().map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect();
        let routes: Vec<(u16, u32)> = self.routes(|index| self.sure_index(index)).into_iter().flatten().collect();
        let ipv6 = getsockname(&first.socket).is_ok_and(|address| address.address_family() == AddressFamily::INET6);
        let choice = classic::Choice { spread: self.spread(&first.socket), ipv6, routes: &routes, indices: &indices };
        classic::attach(&first.socket, &choice)
    }

    /// The entries of the table: each of `among` once, or for each bucket of clients the member of `among` that it
    /// belongs to.
    fn table(&self, among: Vec<usize>, buckets: u32) -> Vec<usize> {
        let owner = |bucket| among.iter().copied().max_by_key(|at| self.members[*at].claim(bucket));
        match self.deal {
            Deal::Each => among,
            Deal::ByAddress => (0..buckets).filter_map(owner).collect(),
        }
    }

    /// What arrives at a socket of this kind, and how it is dealt.
    pub(super) fn spread(&self, socket: impl AsFd) -> Spread {
        if has_connections(socket) { Spread::Connections(self.deal) } else { Spread::Datagrams(self.deal) }
    }

    /// Replaces the program in the kernel by a new one for the present settings. The maps stay.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let (Some(old), Some(member)) = (&self.extended, self.members.first()) else { return Ok(()) };
        let new = old.renewed(self.spread(&member.socket))?;
        new.attach(&member.socket)?;
        self.extended = Some(new);
        Ok(())
    }
}
