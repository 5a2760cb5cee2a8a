//! Drains a worker whose program does not know pmr: takes it out of rotation, waits until its queues are empty, then
//! until its connections are closed. A queue of datagrams is empty when all of them were read.
//!
//! A keep-alive connection may stay open for ever, so one without traffic for [`IDLE_AFTER`] counts as closed. There is
//! no lossless way to make an unknown program close it.

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

/// Time between two polls during the first [`FAST_PERIOD`] of a drain.
const FAST_POLL: Duration = Duration::from_millis(50);
/// Time between two polls later.
const SLOW_POLL: Duration = Duration::from_millis(200);
const FAST_PERIOD: Duration = Duration::from_secs(1);
/// How long a queue must stay empty before the handshakes that were under way when the worker left the rotation count
/// as finished. Where round trips are long, it is [`ROUND_TRIPS`] of the longest instead.
const HANDSHAKES: Duration = Duration::from_secs(1);
/// The same if all clients are on this machine, and for datagrams: one that was read has been processed by then.
const LOCAL_HANDSHAKES: Duration = Duration::from_millis(100);
const ROUND_TRIPS: u32 = 3;
/// A connection without traffic for this long is idle.
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
        let workload = state.borrow().workload(run);
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

/// What a draining worker still has to do.
#[derive(Debug)]
struct Workload {
    /// Connections or datagrams in queues that no other worker shares.
    waiting: u32,
    /// Connections that are open and not idle.
    busy: usize,
    /// How long a handshake may take: a queue must be empty for this long.
    handshakes: Duration,
}

impl QueueTable {
    /// Reports the drain. The owner may stop the worker from now on. Its sockets leave their groups before, because
    /// some programs shut their sockets down as they stop, which would reset what the kernel still put there.
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

    fn workload(&self, run: Run) -> Workload {
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

    /// The TCP connections that the worker's processes have on the ports of its queues.
    pub(crate) fn connections_of(&self, run: Run) -> Vec<Connection> {
        let Some(worker) = self.workers.get(&run) else { return Vec::new() };
        let ports: HashSet<u16> =
            self.held_by(run).filter(|queue| queue.key.tcp).map(|queue| queue.key.address.port()).collect();
        let processes = tree::descendants(&[worker.root]);
        let on = |port| diag::connections_of(&processes, port).unwrap_or_default();
        ports.into_iter().flat_map(on).collect()
    }
}
