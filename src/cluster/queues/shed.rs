//! Connections that wait where no worker serves, and are turned away in the end.
//!
//! They wait in the kernel, which does not tell how long. But it tells of each arrival and how many there are, and hands
//! them out in the order in which they came: so we note the arrivals, and take out what has waited for its time. Once a
//! worker serves nobody looks any more, so the way of a connection to a worker stays free of us.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;
use tokio::time::{Duration, Instant, sleep_until};

use super::lookout::Lookout;
use super::queue::{Queue, QueueId};
use super::state::State;
use crate::cluster::shed;
use crate::os::diag;
use crate::os::reuseport::Key;
use crate::os::socket::{accept_at_once, watch};
use crate::spec::{QueueRule, Shed};

impl State {
    /// What becomes of connections that no worker is ready for.
    pub(super) fn set_rule(&mut self, rule: QueueRule) {
        if rule == self.rule {
            return;
        }
        self.rule = rule;
        self.lookouts.clear();
        let keys: Vec<Key> = self.places.keys().copied().collect();
        keys.iter().for_each(|key| self.look_out(key));
    }

    /// Looks after the queues at an address if nobody serves there. To be called after each change.
    pub(super) fn look_out(&mut self, key: &Key) {
        let Some(timeout) = self.rule.timeout.filter(|_| key.tcp) else { return };
        let unserved = !self.is_served(key);
        let alone = |queue: &&Queue| queue.member.is_some() && queue.holders.iter().all(|holder| !holder.listens);
        let here = self.queues.iter().filter(|queue| queue.key == *key && unserved);
        let wanted: Vec<&Queue> = here.filter(alone).collect();
        let stays = |id: &QueueId| match self.queues.iter().find(|queue| queue.id == *id) {
            Some(queue) if queue.key == *key => wanted.iter().any(|queue| queue.id == *id),
            known => known.is_some(),
        };
        self.lookouts.retain(|id, lookout| stays(id) && lookout.is_there());
        for queue in wanted {
            if self.lookouts.contains_key(&queue.id) {
                continue;
            }
            match queue.socket.try_clone().and_then(watch) {
                Ok(socket) => {
                    let task = turn_late_away(socket, timeout, self.rule.shed);
                    self.lookouts.insert(queue.id, Lookout::new(task));
                }
                Err(error) => tracing::warn!(%error, "nobody is turned away who waits too long"),
            }
        }
    }
}

async fn turn_late_away(socket: AsyncFd<OwnedFd>, timeout: Duration, rule: Shed) {
    // When each that waits was seen first.
    let mut arrivals: VecDeque<Instant> = VecDeque::new();
    loop {
        let now = Instant::now();
        let waiting = diag::waiting(&socket).unwrap_or(0) as usize;
        arrivals.drain(..arrivals.len().saturating_sub(waiting));
        arrivals.resize(waiting, now);
        while arrivals.front().is_some_and(|arrival| *arrival + timeout <= now) {
            arrivals.pop_front();
            match accept_at_once(&socket) {
                Ok(connection) => shed::turn_away(&connection, rule),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => tracing::debug!(%error, "who waits too long cannot be turned away"),
            }
        }
        let news = async {
            match arrivals.front() {
                Some(arrival) => sleep_until(*arrival + timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = socket.readable() => match ready {
                // It was shut down: nobody waits here any more.
                Ok(ready) if ready.ready().is_read_closed() => return,
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
            () = news => {}
        }
    }
}
