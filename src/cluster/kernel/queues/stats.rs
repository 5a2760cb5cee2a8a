//! What the lists of workers and listeners show about queues.

use std::collections::HashSet;

use super::queue::Queue;
use super::table::QueueTable;
use crate::os::net::reuseport::{Deal, Group, KernelBalancing, Key, Reason};
use crate::protocol::{ListenerInfo, Run};

/// The connections of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueStats {
    /// Connections that wait in its queues to be accepted.
    pub(crate) waiting: u32,
    /// Connections that its processes have open.
    pub(crate) open: u32,
}

impl QueueTable {
    pub(crate) fn listeners(&self) -> Vec<ListenerInfo> {
        self.groups.iter().map(|(key, group)| self.info(key, &group.kernel)).collect()
    }

    fn info(&self, key: &Key, group: &Group) -> ListenerInfo {
        let here = || self.queues.iter().filter(|queue| queue.key == *key && queue.member.is_some());
        // A worker may have several sockets here, if it sets `SO_REUSEPORT` by itself.
        let listening = here().flat_map(|queue| &queue.holders).filter(|holder| holder.listens);
        let workers = listening.map(|holder| holder.run).collect::<HashSet<Run>>().len();
        let common = here().any(|queue| queue.holders.len() > 1);
        let prefix = if key.tcp { "" } else { "udp " };
        let (mechanism, why) = describe(key, group, common);
        ListenerInfo {
            address: format!("{prefix}{}", key.address),
            mechanism,
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            why,
            waiting: here().map(Queue::waiting).sum(),
            // The kernel does not count datagrams.
            dealt: if key.tcp { group.dealt() } else { None },
        }
    }

    pub(crate) fn stats(&self, run: Run) -> Option<QueueStats> {
        let mut queues = self.held_by(run).filter(|queue| queue.member.is_some()).peekable();
        queues.peek()?;
        let waiting = queues.map(Queue::waiting).sum();
        let open = self.connections_of(run).iter().filter(|connection| connection.is_open()).count();
        Some(QueueStats { waiting, open: u32::try_from(open).unwrap_or(u32::MAX) })
    }
}

/// How connections get to the workers, and why not by a better balancer.
fn describe(key: &Key, group: &Group, common: bool) -> (String, Option<String>) {
    if common {
        return ("one queue for all".to_owned(), None);
    }
    let (balancer, reason) = group.balancer();
    let mechanism = match (balancer, group.deal()) {
        (KernelBalancing::RoundRobin | KernelBalancing::Random, Deal::ByAddress) => {
            "a queue each, by client address in the kernel"
        }
        (KernelBalancing::RoundRobin | KernelBalancing::Random, Deal::Each) if !key.tcp => "a queue each, by client",
        (KernelBalancing::RoundRobin, Deal::Each) => "a queue each, in turn by the kernel",
        (KernelBalancing::Random, Deal::Each) => "a queue each, by chance",
        (KernelBalancing::Hash, _) => "a queue each, by the kernel's hash",
    };
    let why = match (reason, balancer, group.deal()) {
        (_, KernelBalancing::Hash, Deal::ByAddress) => Some(format!(
            "no client keeps its worker (`sticky`), and no worker can be kept out of it, or checked alone, where the kernel \
             refuses a program: {reason}"
        )),
        (_, KernelBalancing::Hash, Deal::Each) => Some(format!(
            "no worker can be kept out of it, or checked alone, where the kernel refuses a program: {reason}"
        )),
        // Both programs can choose by client address.
        (_, KernelBalancing::RoundRobin | KernelBalancing::Random, Deal::ByAddress) | (Reason::Wanted, ..) => None,
        _ if !key.tcp => None,
        (Reason::Refused(libc::EPERM), ..) => Some("dealing in turn takes CAP_BPF".to_owned()),
        (Reason::Refused(_), ..) => Some(reason.to_string()),
    };
    (mechanism.to_owned(), why)
}
