//! Queues that their programs have closed, though they live on.
//!
//! Some try whether a port is free, some serve what they have to its end before they go. The kernel does not say so, and
//! deals connections to our copy of the socket as before, where nobody accepts them. That they wait is how it is noticed.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::queue::{Queue, QueueId};
use super::state::{Shared, State};
use crate::os::net::diag;
use crate::os::net::reuseport;
use crate::os::net::reuseport::Key;
use crate::os::net::socket::watch;
use crate::os::process::{identity, proc, tree};
use crate::protocol::Run;

/// How long connections wait in a queue before its program is looked into.
const CHECK: Duration = Duration::from_millis(500);
/// The longest time from one look to the next, while a program that has all it can do keeps what waits.
const SELDOM: Duration = Duration::from_secs(8);

impl State {
    /// Notices from now on if connections wait in a queue whose program has closed it.
    pub(crate) fn attend(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.lookout.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        match queue.socket.try_clone() {
            Ok(socket) => {
                let task = tokio::task::spawn_local(attend(self.me.clone(), queue.id, socket));
                queue.lookout = Some(AbortOnDropHandle::new(task));
            }
            Err(error) => tracing::warn!(%error, "it would not be noticed if a program closed its socket"),
        }
    }

    /// How many connections wait in this queue. Where they are no fewer than `before`, its programs are looked into.
    fn check(&mut self, id: QueueId, before: u32) -> Option<u32> {
        let queue = self.queues.iter().find(|queue| queue.id == id)?;
        let now = queue.waiting();
        if now >= before {
            let runs: Vec<Run> = queue.holders.iter().map(|holder| holder.run).collect();
            runs.into_iter().for_each(|run| self.forget_closed(run, None));
        }
        Some(now)
    }

    /// Lets go of what the program has closed, if that can be told. `asking` is a thread of it.
    pub(crate) fn forget_closed(&mut self, run: Run, asking: Option<i32>) {
        let Some(root) = self.workers.get(&run).map(|worker| worker.root).filter(|root| *root > 0) else { return };
        if self.held_by(run).next().is_none() {
            return;
        }
        let mut processes = tree::descendants(&[root]);
        processes.extend(asking);
        let Some(mut open) = diag::sockets_if_known(&processes) else { return };
        if self.held_by(run).any(|queue| !open.contains(&queue.inode)) {
            // A daemon has left the tree. We and the keeper have a copy of each.
            let ours = [identity::pid(), identity::parent()];
            let others: Vec<i32> = proc::sweep().into_keys().filter(|pid| !ours.contains(pid)).collect();
            open.extend(diag::sockets_of(&others));
        }
        self.keep_open(run, &open);
    }

    /// The worker has closed all its sockets but these. What waits in the others is for whoever comes next.
    pub(crate) fn keep_open(&mut self, run: Run, inodes: &HashSet<u64>) {
        let closed = |queue: &Queue| queue.is_held_by(run) && !inodes.contains(&queue.inode);
        let gone: Vec<(QueueId, Key)> =
            self.queues.iter().filter(|queue| closed(queue)).map(|queue| (queue.id, queue.key)).collect();
        for (id, key) in &gone {
            // Out of rotation first: nothing more comes then while it is decided.
            self.queues.iter_mut().filter(|queue| queue.id == *id).for_each(|queue| queue.let_go(run));
            self.steer(*key);
            let waits = self.queues.iter().any(|queue| queue.id == *id && queue.waiting() > 0);
            self.let_go(*id, run, waits || self.is_served(key));
            self.steer(*key);
        }
        if !gone.is_empty() {
            self.note();
            self.look_again();
        }
    }

    /// A worker has this queue no more. Without any other it is removed, unless connections may still wait in it, or
    /// it is the last at its address (`stays`).
    pub(crate) fn let_go(&mut self, id: QueueId, run: Run, stays: bool) {
        let Some(at) = self.queues.iter().position(|queue| queue.id == id) else { return };
        self.queues[at].let_go(run);
        let queue = &self.queues[at];
        let key = queue.key;
        let others = self.chosen(&key).iter().any(|chosen| *chosen != id);
        if !queue.holders.is_empty() || (stays && queue.member.is_some() && !others) {
            return self.listen_again(at);
        }
        // Datagrams take no handshake, never move, and their sockets are not shut down.
        let moves = key.tcp && self.places.get(&key).is_some_and(|place| place.group.migrates());
        let emptied = || self.workers.get(&run).is_some_and(|worker| worker.emptied);
        let empty = (!key.tcp || key.address.ip().is_loopback() || emptied()) && queue.waiting() == 0;
        let listens = !key.tcp || reuseport::listens(&queue.socket);
        if !stays || queue.member.is_none() || !listens || moves || empty {
            self.remove(id);
        }
    }

    /// The program may have shut its socket down, which holds for all who have it.
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
}

/// Sleeps until something waits, and looks then until nothing does. The runtime watches the socket for the first of them
/// only: each connection to a program that is well would wake us.
async fn attend(state: Shared, id: QueueId, socket: OwnedFd) {
    loop {
        let Ok(first) = socket.try_clone().and_then(watch) else { return };
        match first.readable().await {
            // It was shut down. Should it listen again, so will we.
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
            pause = if now >= before { (pause * 2).min(SELDOM) } else { CHECK };
            before = now;
        }
    }
}
