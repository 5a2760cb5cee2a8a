//! Letting a worker finish that knows nothing of us: out of rotation, then its queue is seen empty, then its
//! connections are seen gone. A queue of datagrams is empty when all were read.
//!
//! A connection that is kept alive for a next request would never go; one on which nothing was said for a while is as
//! good as gone. Nobody can tell an unknown program to close it without loss.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::queue::Queue;
use super::table::{QueueTable, WeakQueueTable};
use crate::cluster::notice::Notice;
use crate::os::net::diag;
use crate::os::net::diag::Connection;
use crate::os::process::tree;
use crate::protocol::Run;

/// How often is looked, at first and later.
const FAST_POLL: Duration = Duration::from_millis(50);
const SLOW_POLL: Duration = Duration::from_millis(200);
const FAST_PERIOD: Duration = Duration::from_secs(1);
/// For so long a queue is empty when the handshakes that were under way are over; longer ones take some round trips.
const HANDSHAKES: Duration = Duration::from_secs(1);
/// The same if all clients are on this machine. A datagram that was read is dealt with by then, too.
const LOCAL_HANDSHAKES: Duration = Duration::from_millis(100);
const ROUND_TRIPS: u32 = 3;
/// A connection that was quiet for so long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// See [`super::Queues::drain`].
pub(crate) fn start(state: &Rc<RefCell<QueueTable>>, run: Run, grace: Duration) {
    let mut state = state.borrow_mut();
    state.exclude(run);
    if state.held_by(run).next().is_none() {
        return state.notify(Notice::Drained { run });
    }
    let me = state.me.clone();
    let Some(worker) = state.workers.get_mut(&run).filter(|worker| worker.draining.is_none()) else { return };
    let task = tokio::task::spawn_local(drain(me, run, Instant::now() + grace));
    worker.draining = Some(AbortOnDropHandle::new(task));
}

async fn drain(shared: WeakQueueTable, run: Run, until: Instant) {
    let begun = Instant::now();
    let mut empty_since = begun;
    loop {
        let now = Instant::now();
        let Some(state) = shared.upgrade() else { return };
        let workload = state.borrow().look(run);
        if workload.waiting > 0 {
            empty_since = now;
        }
        let emptied = now - empty_since >= workload.handshakes;
        if emptied && let Some(worker) = state.borrow_mut().workers.get_mut(&run) {
            worker.emptied = true;
        }
        if (emptied && workload.busy == 0) || now >= until {
            return state.borrow_mut().finish_drain(run);
        }
        drop(state);
        let pause = if now - begun < FAST_PERIOD { FAST_POLL } else { SLOW_POLL };
        sleep(pause.min(until - now)).await;
    }
}

/// What a worker has to do.
#[derive(Debug)]
struct Workload {
    /// Connections in queues of its own, or datagrams.
    waiting: u32,
    /// Connections it is not done with.
    busy: usize,
    /// How long one may be on its way to the queue.
    handshakes: Duration,
}

impl QueueTable {
    /// The owner may stop it now. Some programs shut their sockets down as they stop.
    fn finish_drain(&mut self, run: Run) {
        let own = self.held_by(run).filter(|queue| queue.holders.len() == 1);
        let own: Vec<_> = own.filter_map(|queue| Some((queue.key, queue.member?))).collect();
        for (key, member) in own {
            if let Some(group) = self.groups.get_mut(&key) {
                group.kernel.leave(member);
            }
        }
        self.save();
        self.notify(Notice::Drained { run });
    }

    fn look(&self, run: Run) -> Workload {
        let own = self.held_by(run).filter(|queue| queue.holders.len() == 1 && queue.member.is_some());
        let waiting = own.map(Queue::waiting).sum();
        let connections = self.connections_of(run);
        let busy =
            connections.iter().filter(|connection| connection.is_open() && !connection.is_idle(IDLE_AFTER)).count();
        let handshakes = if self.held_by(run).all(|queue| !queue.key.tcp || queue.key.address.ip().is_loopback()) {
            LOCAL_HANDSHAKES
        } else {
            let longest = connections.iter().map(|connection| connection.round_trip).max().unwrap_or_default();
            HANDSHAKES.max(longest * ROUND_TRIPS)
        };
        Workload { waiting, busy, handshakes }
    }

    /// What its processes have open on the ports of its queues.
    pub(crate) fn connections_of(&self, run: Run) -> Vec<Connection> {
        let Some(worker) = self.workers.get(&run) else { return Vec::new() };
        let ports: HashSet<u16> =
            self.held_by(run).filter(|queue| queue.key.tcp).map(|queue| queue.key.address.port()).collect();
        let processes = tree::descendants(&[worker.root]);
        let on = |port| diag::connections_of(&processes, port).unwrap_or_default();
        ports.into_iter().flat_map(on).collect()
    }
}
