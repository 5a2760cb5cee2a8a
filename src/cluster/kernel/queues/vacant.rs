//! Queues that lose their worker: closed by a program that runs on, or left by a worker without a successor.
//!
//! Some programs test whether a port is free; some close their socket and finish their connections before they exit.
//! The kernel does not report that, and distributes connections to the daemon's copy of the socket as before, where no
//! process accepts them. The daemon notices it by the connections that wait.
//!
//! A queue that no worker has inherited for [`ORPHAN_TIMEOUT`] is closed, if the app serves elsewhere.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::queue::{Queue, QueueId};
use super::table::{QueueTable, WeakQueueTable};
use crate::os::clock;
use crate::os::net::diag;
use crate::os::net::reuseport;
use crate::os::net::reuseport::Key;
use crate::os::net::socket::watch;
use crate::os::process::{identity, proc, tree};
use crate::protocol::Run;

/// How long connections wait in a queue before the daemon checks whether its program still has the socket.
const CHECK: Duration = Duration::from_millis(500);
/// The longest time between two checks. It doubles up to this while a busy program leaves connections waiting.
const SLOW_POLL: Duration = Duration::from_secs(8);

/// How long a vacant queue that no worker inherits stays open while other workers of the app serve.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);

impl QueueTable {
    /// Starts the task that notices when connections wait in a queue whose program has closed it, unless it runs.
    pub(crate) fn watch_for_close(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.close_watch.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        match queue.socket.try_clone() {
            Ok(socket) => {
                let task = tokio::task::spawn_local(watch_for_close(self.me.clone(), queue.id, socket));
                queue.close_watch = Some(AbortOnDropHandle::new(task));
            }
            Err(error) => tracing::warn!(%error, "pmr will not notice if a program closes its socket"),
        }
    }

    /// Returns how many connections wait in this queue, `None` if it is closed. If they are no fewer than `before`,
    /// checks whether its workers still have the socket.
    fn check(&mut self, id: QueueId, before: u32) -> Option<u32> {
        let queue = self.queues.iter().find(|queue| queue.id == id)?;
        let now = queue.waiting();
        if now >= before {
            let runs: Vec<Run> = queue.holders.iter().map(|holder| holder.run).collect();
            runs.into_iter().for_each(|run| self.release_closed(run, None));
        }
        Some(now)
    }

    /// See [`super::Queues::release_closed`].
    pub(crate) fn release_closed(&mut self, run: Run, asking: Option<i32>) {
        let Some(root) = self.workers.get(&run).map(|worker| worker.root).filter(|root| *root > 0) else { return };
        if self.held_by(run).next().is_none() {
            return;
        }
        let mut processes = tree::descendants(&[root]);
        processes.extend(asking);
        let Some(mut open) = diag::sockets_if_known(&processes) else { return };
        if self.held_by(run).any(|queue| !open.contains(&queue.inode)) {
            // A process that made itself a daemon has left the tree, so all processes are searched, but for God and the
            // keeper, which have a copy of each socket.
            let ours = [identity::pid(), identity::parent()];
            let others: Vec<i32> = proc::sweep().into_keys().filter(|pid| !ours.contains(pid)).collect();
            open.extend(diag::sockets_of(&others));
        }
        self.release_all_but(run, &open);
    }

    /// The worker has closed all its sockets but these. What waits in the others goes to other workers or to the next
    /// one.
    pub(crate) fn release_all_but(&mut self, run: Run, inodes: &HashSet<u64>) {
        let closed = |queue: &Queue| queue.is_held_by(run) && !inodes.contains(&queue.inode);
        let gone: Vec<(QueueId, Key)> =
            self.queues.iter().filter(|queue| closed(queue)).map(|queue| (queue.id, queue.key)).collect();
        for (id, key) in &gone {
            // The queue leaves the rotation first, so that no connection comes between the count and the decision.
            self.queues.iter_mut().filter(|queue| queue.id == *id).for_each(|queue| queue.release(run));
            self.update_rotation(*key);
            let waits = self.queues.iter().any(|queue| queue.id == *id && queue.waiting() > 0);
            self.release(*id, run, waits || self.is_served(key));
            self.update_rotation(*key);
        }
        if !gone.is_empty() {
            self.save();
            self.schedule_orphan_check();
        }
    }

    /// The worker no longer has this queue. A queue without another holder is removed, unless it `stays` and
    /// connections may wait in it or it is the last in rotation at its address.
    pub(crate) fn release(&mut self, id: QueueId, run: Run, stays: bool) {
        let Some(at) = self.queues.iter().position(|queue| queue.id == id) else { return };
        self.queues[at].release(run);
        let queue = &self.queues[at];
        let key = queue.key;
        let others = self.rotation_at(&key).iter().any(|other| *other != id);
        if !queue.holders.is_empty() || (stays && queue.member.is_some() && !others) {
            return self.listen_again(at);
        }
        // Datagrams take no handshake, the kernel never moves them, and a UDP socket does not listen.
        let moves = key.tcp && self.groups.get(&key).is_some_and(|group| group.kernel.migrates());
        let emptied = || self.workers.get(&run).is_some_and(|worker| worker.emptied);
        let empty = (!key.tcp || key.address.ip().is_loopback() || emptied()) && queue.waiting() == 0;
        let listens = !key.tcp || reuseport::listens(&queue.socket);
        if !stays || queue.member.is_none() || !listens || moves || empty {
            self.remove(id);
        }
    }

    /// Makes the socket listen again if the program has shut it down, which affects every copy of it.
    fn listen_again(&mut self, at: usize) {
        let queue = &self.queues[at];
        if queue.key.tcp
            && queue.member.is_some()
            && !reuseport::listens(&queue.socket)
            && let Err(error) = self.enter(at, reuseport::BACKLOG)
        {
            tracing::warn!(%error, "a socket that its program shut down cannot listen again");
        }
    }

    /// Schedules a check for [`ORPHAN_TIMEOUT`] from now, and again while there are vacant queues.
    pub(crate) fn schedule_orphan_check(&mut self) {
        if !self.queues.iter().any(Queue::is_vacant) || std::mem::replace(&mut self.orphan_check_scheduled, true) {
            return;
        }
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(ORPHAN_TIMEOUT).await;
            if let Some(state) = me.upgrade() {
                let mut state = state.borrow_mut();
                state.orphan_check_scheduled = false;
                state.remove_orphaned();
                state.schedule_orphan_check();
            }
        });
    }

    /// Removes the queues that have been vacant for [`ORPHAN_TIMEOUT`], if the app serves anywhere.
    fn remove_orphaned(&mut self) {
        let now = clock::monotonic_ms();
        let is_orphaned = |queue: &&Queue| {
            let vacant_for = queue.vacant_since.map_or(0, |since| now.saturating_sub(since));
            queue.is_vacant() && Duration::from_millis(vacant_for) >= ORPHAN_TIMEOUT
        };
        let served = self.queues.iter().any(|queue| self.is_served_queue(queue));
        let orphaned: Vec<QueueId> = self.queues.iter().filter(is_orphaned).map(|queue| queue.id).collect();
        if served && !orphaned.is_empty() {
            orphaned.iter().for_each(|id| self.remove(*id));
            self.save();
        }
    }
}

/// Sleeps until a connection waits, then polls until none does. The runtime does not watch the socket meanwhile, since
/// each connection to a busy program would wake the task.
async fn watch_for_close(state: WeakQueueTable, id: QueueId, socket: OwnedFd) {
    loop {
        let Ok(first) = socket.try_clone().and_then(watch) else { return };
        match first.readable().await {
            // The socket was shut down. If it listens again, `enter` starts a new task.
            Ok(ready) if ready.ready().is_read_closed() => return,
            Ok(_) => {}
            Err(_) => return,
        }
        drop(first);
        let (mut before, mut pause) = (1, CHECK);
        while before > 0 {
            tokio::time::sleep(pause).await;
            let Some(state) = state.upgrade() else { return };
            let Some(now) = state.borrow_mut().check(id, before) else { return };
            pause = if now >= before { (pause * 2).min(SLOW_POLL) } else { CHECK };
            before = now;
        }
    }
}
