//! What a group deals to its members, and what decides to which member it goes.

use serde::{Deserialize, Serialize};

/// What decides to which member a connection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deal {
    /// The balancer alone: each connection is dealt by itself, in turn or at random. Datagrams of one socket stay
    /// together.
    #[default]
    Each,
    /// The client's address: all that a client sends goes to the same member.
    ByAddress,
}

/// The clients of a member, with [`Deal::ByAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The member has the clients that belong to this number (see [`rendezvous`](super::rendezvous)).
    pub number: u32,
    /// Of several members with the same number, the one with the highest rank has the clients.
    pub rank: u64,
}

/// What arrives at a group's address, and how it is dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Connections. With [`Deal::Each`] each one is dealt by itself.
    Connections(Deal),
    /// Datagrams. With [`Deal::Each`] those from one client's socket stay together.
    Datagrams(Deal),
}
