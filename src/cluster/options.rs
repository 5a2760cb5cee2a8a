//! What the owner of a cluster decides: how it balances, and how a worker takes part in it.

use std::os::fd::OwnedFd;

use super::balancer::Rules;
use crate::os::net::reuseport::Deal;
use crate::spec::{Balance, QueueRule, Sharing};

/// How a cluster works. The owner may change it at any time.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// How connections are distributed among the workers.
    pub balance: Balance,
    /// Which ports are shared among workers of programs that know nothing of the cluster.
    pub sharing: Sharing,
    /// What becomes of connections that no worker is ready for.
    pub queue: QueueRule,
}

impl ClusterOptions {
    /// The part of the options that the balancer follows.
    pub(crate) fn rules(&self) -> Rules {
        Rules { balance: self.balance, max_connections: self.queue.max_connections }
    }

    /// The nearest policy that the kernel can follow where it distributes connections by itself.
    pub(crate) fn deal(&self) -> Deal {
        match self.balance {
            Balance::Sticky => Deal::ByAddress,
            Balance::RoundRobin | Balance::Least | Balance::Shared => Deal::Each,
        }
    }
}

/// How a worker takes part in the cluster.
#[derive(Debug)]
pub enum WorkerProtocol {
    /// The worker only sends and receives messages.
    None,
    /// The worker was started with a `NODE_UNIQUE_ID` and speaks Node's cluster protocol on its IPC channel.
    Node,
    /// The worker was started with the other end of this socket as `PMR_CHANNEL_FD`. It takes part once it has sent a
    /// hello there.
    Channel(OwnedFd),
}
