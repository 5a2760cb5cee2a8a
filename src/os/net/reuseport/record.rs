//! What a group leaves behind for whoever comes after us: a record, the sockets, and the files that are its balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::balancing::{KernelBalancing, Reason};
use super::deal::{Deal, Seat};
use super::extended::Extended;
use super::group::{Group, Member, MemberId};
use super::program::ROUTES;

/// A group without its sockets, for whoever comes after us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    members: Vec<(MemberId, u32, bool)>,
    /// Whose index is not known, and whose program was told to stop.
    unsure: BTreeSet<MemberId>,
    leaving: BTreeSet<MemberId>,
    next: u32,
    at_most: KernelBalancing,
    balancer: KernelBalancing,
    reason: Reason,
    #[serde(default)]
    migrates: bool,
    #[serde(default)]
    deal: Deal,
    #[serde(default)]
    seats: BTreeMap<MemberId, Seat>,
}

impl Record {
    /// The members it had, whose sockets belong to it.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().map(|(id, ..)| *id)
    }
}

impl Group {
    /// What to write down for whoever comes after us, who also needs [`Group::files`].
    #[must_use]
    pub fn record(&self) -> Record {
        let those = |which: fn(&Member) -> bool| {
            self.members.iter().filter(|member| which(member)).map(|member| member.id).collect()
        };
        Record {
            members: self.members.iter().map(|member| (member.id, member.place, member.included)).collect(),
            unsure: those(|member| !member.sure),
            leaving: those(|member| member.leaving),
            next: self.next,
            at_most: self.at_most,
            balancer: self.balancer,
            reason: self.reason.clone(),
            migrates: self.migrates(),
            deal: self.deal,
            seats: self.members.iter().filter_map(|member| Some((member.id, member.seat?))).collect(),
        }
    }

    /// The files that are the balancer, by name. There are none but with `RoundRobin`.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        self.extended.iter().flat_map(Extended::files).collect()
    }

    /// The group of one who died: `sockets` by member, `files` by name. A member without its socket is forgotten;
    /// without all of its files the balancer is the next best, since no socket can be under two of that kind.
    #[must_use]
    pub fn adopt(
        record: Record,
        mut sockets: BTreeMap<MemberId, OwnedFd>,
        mut files: BTreeMap<String, OwnedFd>,
    ) -> Group {
        let Record { members, unsure, leaving, next, at_most, balancer, reason, migrates, deal, seats } = record;
        let all_are_here = members.iter().all(|(id, ..)| sockets.contains_key(id));
        let members: Vec<_> = members
            .into_iter()
            .filter_map(|(id, place, included)| {
                let (leaving, sure) = (leaving.contains(&id), all_are_here && !unsure.contains(&id));
                let seat = seats.get(&id).copied();
                Some(Member { id, socket: sockets.remove(&id)?, place, included, leaving, sure, seat })
            })
            .collect();
        let (routes, departures) = ([None; ROUTES], 0);
        let mut group = Group { members, next, at_most, deal, extended: None, balancer, reason, routes, departures };
        if balancer == KernelBalancing::RoundRobin {
            group.extended = Extended::adopt(&mut files, migrates);
            if group.extended.is_none() {
                group.fall_back(KernelBalancing::Random, Reason::Refused(libc::EBUSY));
            }
        }
        group.notice_leavers();
        // Whatever the kernel has, it may be from before the last line that was written down.
        group.steer();
        if group.lacks_routes() {
            // Without, all is as before.
            let _ = group.renew();
        }
        group
    }
}
