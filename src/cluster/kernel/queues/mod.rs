//! The accept queues of one app's workers: one for each worker and address, side by side in groups that share a port.
//!
//! We hold a copy of every socket, so a queue outlives its worker:
//!
//! ```text
//!            listening()                 gone()
//!  bound ───────────────► held by a run ────────► vacant ──inherit()──► held by the next run
//!                          in rotation,              │
//!                          unless excluded           └─► removed: its connections moved to others, or nobody came
//! ```
//!
//! **The door.** Connections go to queues of workers that are not excluded. When there is none left, but the address has
//! queues, they go to a vacant one, and if there is none, to a spare listening socket of ours. So nothing is dealt to
//! workers that drain or stop, nobody is refused, and the next worker that wants the address inherits what waits. Workers
//! that are not ready though they listen are out of rotation, too, as are unwell ones where others serve ([`not_ready`]). All
//! of them can be asked all the same ([`connect_to`]).
//!
//! **Clients.** With `balance: sticky` the kernel goes by client address, and each address belongs to the worker of one
//! number ([`clients`]): its successor inherits it, and so does the next God.
//!
//! A program that closes its socket and lives on has no queue any more ([`closed`]).
//!
//! The owner tells who arrives, leaves and is gone; who binds and listens is told by whoever sees it: the takeover of
//! binds, socket activation. All of it runs on one thread, inside a [`tokio::task::LocalSet`].

mod drain;
mod probe;
mod queue;
mod record;
mod rotation;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod vacant;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

pub(crate) use self::probe::DirectConnection;
use self::queue::Queue;
pub use self::record::queues_key;
pub(crate) use self::stats::QueueStats;
use self::table::QueueTable;
use crate::cluster::notice::Notice;
use crate::cluster::own_connections::OwnConnections;
use crate::cluster::own_connections::Unreachable;
use crate::cluster::persist::StateStore;
use crate::os::net::reuseport::{Deal, KernelBalancing, Key};
use crate::protocol::{ListenerInfo, Run};
use crate::spec::QueueRule;

/// The accept queues of one app. Clones are the same queues. When the last is dropped, all of them close.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    state: Rc<RefCell<QueueTable>>,
}

impl Queues {
    /// None yet. New groups get the best balancer there is, up to `best_balancing`.
    pub(crate) fn new(store: StateStore, best_balancing: KernelBalancing, notices: UnboundedSender<Notice>) -> Queues {
        Queues { state: QueueTable::new(store, best_balancing, notices) }
    }

    /// Those of the God before. What belongs to them is taken out of `files`. Workers that are gone by now are still to
    /// be told of by [`Queues::gone`].
    ///
    /// # Errors
    /// A sentence, if the record makes no sense.
    pub(crate) fn adopt(
        store: StateStore,
        best_balancing: KernelBalancing,
        notices: UnboundedSender<Notice>,
        record: &str,
        files: &mut HashMap<String, OwnedFd>,
    ) -> Result<Queues, String> {
        Ok(Queues { state: QueueTable::adopt(store, best_balancing, notices, record, files)? })
    }

    /// What becomes of connections while no worker is ready for them.
    pub(crate) fn set_rule(&self, rule: QueueRule) {
        self.state.borrow_mut().set_rule(rule);
    }

    /// What the kernel tells connections apart by.
    pub(crate) fn set_deal(&self, deal: Deal) {
        self.state.borrow_mut().set_deal(deal);
    }

    /// The worker's number among the app's processes: a successor has the same.
    pub(crate) fn set_instance(&self, run: Run, instance: u32) {
        self.state.borrow_mut().set_instance(run, instance);
    }

    /// A worker was started, whose processes descend from this one.
    pub(crate) fn join(&self, run: Run, root: i32) {
        self.state.borrow_mut().join(run, root);
    }

    /// The worker has this socket, which was bound just now with `SO_REUSEPORT`. A TCP socket is served from
    /// [`Queues::listening`] on, a UDP socket from [`Queues::reads`] on; until then it gets what nobody else could have.
    ///
    /// # Errors
    /// If the kernel refuses; then nothing is kept of it.
    pub(crate) fn bound(&self, run: Run, socket: OwnedFd) -> io::Result<()> {
        self.state.borrow_mut().bound(run, socket)
    }

    /// The worker listens on a socket, with a queue of `backlog` or longer. Returns the address, if the queue is one of
    /// ours. Told again, only the backlog changes.
    ///
    /// # Errors
    /// What `listen` says.
    pub(crate) fn listening(&self, run: Run, socket: impl AsFd, backlog: i32) -> io::Result<Option<Key>> {
        self.state.borrow_mut().listening(run, socket, backlog)
    }

    /// The worker reads datagrams at this address. False if it has no socket there any more.
    pub(crate) fn reads(&self, run: Run, key: &Key) -> bool {
        self.state.borrow_mut().reads(run, *key)
    }

    /// Where the worker has bound sockets for datagrams, and was not said to read them.
    pub(crate) fn unread_datagram_keys(&self, run: Run) -> Vec<Key> {
        let state = self.state.borrow();
        let pending = |queue: &Queue| queue.holders.iter().any(|holder| holder.run == run && !holder.listens);
        state.queues.iter().filter(|queue| !queue.key.tcp && pending(queue)).map(|queue| queue.key).collect()
    }

    /// A listening socket for this worker: what waits at this address, if it has no worker, or a new one, which stays
    /// out of rotation until [`Queues::listening`] is told of it.
    ///
    /// # Errors
    /// What `bind` and `listen` say.
    pub(crate) fn open(&self, run: Run, key: &Key) -> io::Result<OwnedFd> {
        self.state.borrow_mut().open_for(run, *key)
    }

    /// Lets connections to this address wait from now on, though there is no worker for it yet.
    ///
    /// # Errors
    /// What `bind` and `listen` say.
    pub(crate) fn open_placeholder(&self, key: &Key) -> io::Result<()> {
        self.state.borrow_mut().open_placeholder(*key)
    }

    /// The worker accepts from all the sockets it was given.
    pub(crate) fn serve(&self, run: Run) {
        self.state.borrow_mut().serve(run);
    }

    /// Nothing goes to the queues of this worker, which need not be known yet, before [`Queues::admit`], as far as that can
    /// be seen to.
    pub(crate) fn mark_not_ready(&self, run: Run) {
        self.state.borrow_mut().mark_not_ready(run);
    }

    /// Nothing goes to the queues of this worker before [`Queues::admit`] at addresses where another accepts.
    pub(crate) fn eject(&self, run: Run) {
        self.state.borrow_mut().eject(run);
    }

    /// It is ready, and well.
    pub(crate) fn admit(&self, run: Run) {
        self.state.borrow_mut().admit(run);
    }

    /// A connection of our own to the worker, whether it is in rotation or not, at the first address it bound.
    pub(crate) fn connect_to(&self, run: Run) -> impl Future<Output = Result<DirectConnection, Unreachable>> + use<> {
        probe::connect_to(Rc::downgrade(&self.state), run, None)
    }

    /// The same at this address.
    pub(crate) fn connect_at(
        &self,
        run: Run,
        key: Key,
    ) -> impl Future<Output = Result<DirectConnection, Unreachable>> + use<> {
        probe::connect_to(Rc::downgrade(&self.state), run, Some(key))
    }

    /// Connections of our own to the workers.
    pub(crate) fn own_connections(&self) -> OwnConnections {
        self.state.borrow().own_connections.clone()
    }

    /// True if there are queues at this address.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.state.borrow().groups.contains_key(key)
    }

    /// Where there are queues.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.state.borrow().groups.keys().copied().collect()
    }

    /// Copies of the sockets that listen.
    pub(crate) fn sockets(&self) -> Vec<OwnedFd> {
        let state = self.state.borrow();
        let listening = state.queues.iter().filter(|queue| queue.member.is_some());
        listening.filter_map(|queue| queue.socket.try_clone().ok()).collect()
    }

    /// How many connections wait to be accepted.
    pub(crate) fn waiting(&self) -> u32 {
        self.state.borrow().waiting()
    }

    /// How many connections were dealt out; `None` where nobody counts them.
    pub(crate) fn dealt(&self) -> Option<u64> {
        self.state.borrow().groups.values().map(|group| group.kernel.dealt()).sum()
    }

    /// A queue at this address that has no worker, the fullest first. From now on it is this worker's.
    pub(crate) fn inherit(&self, run: Run, key: &Key) -> Option<OwnedFd> {
        self.state.borrow_mut().inherit(run, key)
    }

    /// The queue at this address that others serve, or have begun to. From now on this worker does, too.
    pub(crate) fn join_shared(&self, run: Run, key: &Key) -> Option<OwnedFd> {
        self.state.borrow_mut().join_shared(run, key)
    }

    /// True if there is a queue at this address, or at one that includes it or is included.
    pub(crate) fn overlaps_any(&self, key: &Key) -> bool {
        self.state.borrow().queues.iter().any(|queue| queue.key.overlaps(key))
    }

    /// What the worker holds: address and inode of each socket.
    pub(crate) fn held_by(&self, run: Run) -> Vec<(Key, u64)> {
        self.state.borrow().held_by(run).map(|queue| (queue.key, queue.inode)).collect()
    }

    /// True if the worker is known to listen on this socket.
    pub(crate) fn is_listening_on(&self, run: Run, socket: impl AsFd) -> bool {
        let state = self.state.borrow();
        table::inode(socket).is_ok_and(|inode| state.listening_keys(run).any(|queue| queue.inode == inode))
    }

    /// Where the worker listens.
    pub(crate) fn listening_keys(&self, run: Run) -> Vec<Key> {
        self.state.borrow().listening_keys(run).map(|queue| queue.key).collect()
    }

    /// Lets go of what the worker has closed, if that can be told: programs try whether a port is free, and do not say
    /// so. `asking` is a thread of it.
    pub(crate) fn release_closed(&self, run: Run, asking: Option<i32>) {
        self.state.borrow_mut().release_closed(run, asking);
    }

    /// Out of rotation at once.
    pub(crate) fn exclude(&self, run: Run) {
        self.state.borrow_mut().exclude(run);
    }

    /// Out of rotation, and let it finish what it has. Ends in one [`Notice::Drained`], after `grace` at the latest,
    /// unless [`Queues::gone`] comes first.
    pub(crate) fn drain(&self, run: Run, grace: Duration) {
        drain::start(&self.state, run, grace);
    }

    /// The worker has ended. What waits in its queues is for others.
    pub(crate) fn gone(&self, run: Run) {
        self.state.borrow_mut().gone(run);
    }

    /// All queues close; what waits in them is reset.
    pub(crate) fn close(&self) {
        self.state.borrow_mut().close();
    }

    /// What the app listens on.
    pub(crate) fn listeners(&self) -> Vec<ListenerInfo> {
        self.state.borrow().listeners()
    }

    /// How much this worker has to do; `None` if it listens on nothing here.
    pub(crate) fn stats(&self, run: Run) -> Option<QueueStats> {
        self.state.borrow().stats(run)
    }
}
