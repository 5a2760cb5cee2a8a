//! Queues that their programs have closed, though they live on.
//!
//! Some try whether a port is free, some serve what they have to its end before they go. The kernel does not say so, and
//! deals connections to our copy of the socket as before, where nobody accepts them. That they wait is how it is noticed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::queue::{Queue, QueueId};
use super::state::State;
use crate::os::reuseport::{self, Key};
use crate::os::{diag, identity, proc, tree};
use crate::protocol::Run;

/// How long connections wait in a queue before its program is looked into.
const CHECK: Duration = Duration::from_millis(500);

impl State {
    /// Looks into programs whose connections wait, as long as there are any.
    pub(super) fn check_for_closed(&mut self) {
        if std::mem::replace(&mut self.checking, true) {
            return;
        }
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            let mut before = HashMap::new();
            loop {
                tokio::time::sleep(CHECK).await;
                let Some(state) = me.upgrade() else { return };
                let mut state = state.borrow_mut();
                if state.workers.is_empty() {
                    state.checking = false;
                    return;
                }
                before = state.check(&before);
            }
        });
    }

    /// Returns how many connections wait in which queues. Where they are no fewer than `before`, the programs are
    /// looked into.
    fn check(&mut self, before: &HashMap<QueueId, u32>) -> HashMap<QueueId, u32> {
        let waits = |queue: &&Queue| !queue.holders.is_empty() && queue.waiting() > 0;
        let now: HashMap<QueueId, u32> =
            self.queues.iter().filter(waits).map(|queue| (queue.id, queue.waiting())).collect();
        let is_stuck = |queue: &&Queue| before.get(&queue.id).is_some_and(|before| now.get(&queue.id) >= Some(before));
        let stuck = self.queues.iter().filter(is_stuck);
        let runs: HashSet<Run> = stuck.flat_map(|queue| &queue.holders).map(|holder| holder.run).collect();
        runs.into_iter().for_each(|run| self.forget_closed(run, None));
        now
    }

    /// Lets go of what the program has closed, if that can be told. `asking` is a thread of it.
    pub(super) fn forget_closed(&mut self, run: Run, asking: Option<i32>) {
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
    pub(super) fn keep_open(&mut self, run: Run, inodes: &HashSet<u64>) {
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
    pub(super) fn let_go(&mut self, id: QueueId, run: Run, stays: bool) {
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
