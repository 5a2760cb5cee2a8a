//! Sockets of several processes on one port (`SO_REUSEPORT`), each with an accept queue of its own, and control over
//! which of them gets the next connection.
//!
//! A [`Group`] holds a copy of every socket that shares an address. So a queue outlives the process that served it, and
//! no socket leaves the kernel's list unnoticed. A program in the kernel chooses among the sockets:
//!
//! | balancer | needs | connections | UDP |
//! |---|---|---|---|
//! | [`KernelBalancing::RoundRobin`] | `CAP_BPF` | in turn | by client |
//! | [`KernelBalancing::Random`] | nothing | at random | by client |
//! | [`KernelBalancing::Hash`] | nothing, the kernel's own | by client address and port; excludes no member | same |
//!
//! With [`Deal::ByAddress`] the first two deal both by the client's address alone: each client belongs to one member,
//! and that member's successor inherits the client (see `rotation`). `Hash` cannot do that.
//!
//! An excluded member gets no new connections. It keeps those that it has and those in its queue. The daemon can make a
//! connection of its own to any member: see `routes`.
//!
//! ## The kernel's list
//!
//! `Random` names a socket by its index, so the order is kept as the kernel keeps it (`net/core/sock_reuseport.c`): a
//! TCP socket is appended when it *listens*, a UDP socket when it is bound; when one leaves, the last one moves into
//! its place. A program can remove its socket by `shutdown`, although the group has a copy: see `order`.

mod balancing;
mod bpf;
mod classic;
mod deal;
mod extended;
mod group;
mod membership;
mod order;
mod program;
mod record;
pub mod rendezvous;
mod rotation;
mod routes;
mod shared;
#[cfg(test)]
mod tests;

pub use balancing::{KernelBalancing, Reason};
pub use deal::{Deal, Seat};
pub use group::{Group, MemberId};
pub use membership::{BACKLOG, can_migrate};
pub use record::Record;
pub use routes::{Order, Unroutable};
pub use shared::{Key, carry_options, is_multipath, is_shared, listens, share, single_path};
