//! What a group leaves for the next God: a record, the sockets, and the files of its balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::balancing::{KernelBalancing, Reason};
use super::deal::{Deal, Seat};
use super::extended::Extended;
use super::group::{Group, Member, MemberId};
use super::program::ROUTES;

/// A group without its sockets, for the next God.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number, place, and whether the member is in rotation.
    members: Vec<(MemberId, u32, bool)>,
    /// Members whose index in the kernel's list is not known.
    unsure: BTreeSet<MemberId>,
    /// Members whose program got its stop signal.
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
    /// The members of the group, whose sockets [`Group::adopt`] needs.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().map(|(id, ..)| *id)
    }
}

impl Group {
    /// The record for the next God, which also needs [`Group::files`].
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

    /// The files of the balancer, by name. Only `RoundRobin` has any.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        self.extended.iter().flat_map(Extended::files).collect()
    }

    /// The group of a God that died: `sockets` by member, `files` by name. A member without its socket is forgotten. If
    /// a file is missing, the group gets the next best balancer, since a socket cannot be under two of that kind.
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
        // The state in the kernel may be older than the record.
        group.steer();
        if group.lacks_routes() {
            // Without routes the group works as before.
            let _ = group.renew();
        }
        group
    }
}
