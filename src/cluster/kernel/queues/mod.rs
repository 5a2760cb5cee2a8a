//! The accept queues of one app's workers: one for each worker and address, in groups that share a port.
//!
//! The daemon holds a copy of every socket, so a queue outlives its worker:
//!
//! ```text
//!            listening()                 gone()
//!  bound ───────────────► held by a run ────────► vacant ──inherit()──► held by the next run
//!                          in rotation,              │
//!                          unless excluded           └─► removed: its connections moved to other queues, or no
//!                                                        worker inherited it in time
//! ```
//!
//! **Rotation.** Connections go to the queues of workers that are not excluded. When none is left but the address has
//! queues, they go to a vacant queue, and if there is none, to a placeholder socket of the daemon. So workers that
//! drain or stop get no connection, no client is refused, and the next worker that binds the address inherits what
//! waits. Workers that listen but are not ready are out of rotation, too, as are unhealthy ones where others serve
//! ([`rotation`]). The daemon can still connect to each of them alone ([`probe`]).
//!
//! **Sticky clients.** With `balance: sticky` the kernel chooses by client address, and each address belongs to one
//! instance number ([`rotation`]): the worker's successor inherits its clients, and the next God keeps the assignment.
//!
//! A program that closes its socket and goes on running loses its queue ([`vacant`]).
//!
//! The owner reports which workers start, leave and end. Bind interception and socket activation report which sockets
//! they bind and listen on. All of it runs on one thread, inside a [`tokio::task::LocalSet`].

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
    /// An app without queues. Each new group gets the best balancer that the kernel allows, up to `best_balancing`.
    pub(crate) fn new(store: StateStore, best_balancing: KernelBalancing, notices: UnboundedSender<Notice>) -> Queues {
        Queues { state: QueueTable::new(store, best_balancing, notices) }
    }

    /// The queues of the previous God, from its `record`. Takes their sockets out of `files`, which maps names in the
    /// keeper to descriptors. The caller must report workers that have ended meanwhile by [`Queues::gone`].
    ///
    /// # Errors
    /// A sentence, if the record cannot be read.
    pub(crate) fn adopt(
        store: StateStore,
        best_balancing: KernelBalancing,
        notices: UnboundedSender<Notice>,
        record: &str,
        files: &mut HashMap<String, OwnedFd>,
    ) -> Result<Queues, String> {
        Ok(Queues { state: QueueTable::adopt(store, best_balancing, notices, record, files)? })
    }

    /// Sets how long connections may wait while no worker is ready, how they are rejected, and the least backlog.
    pub(crate) fn set_rule(&self, rule: QueueRule) {
        self.state.borrow_mut().set_rule(rule);
    }

    /// Sets whether the kernel chooses a queue for each connection or for each client address.
    pub(crate) fn set_deal(&self, deal: Deal) {
        self.state.borrow_mut().set_deal(deal);
    }

    /// Sets the worker's instance number among the app's processes. Its successor has the same.
    pub(crate) fn set_instance(&self, run: Run, instance: u32) {
        self.state.borrow_mut().set_instance(run, instance);
    }

    /// A worker was started. All its processes descend from the pid `root`; 0 means that it is not known yet.
    pub(crate) fn join(&self, run: Run, root: i32) {
        self.state.borrow_mut().join(run, root);
    }

    /// The worker has this socket, which was just bound with `SO_REUSEPORT`. A TCP socket is in rotation after
    /// [`Queues::listening`], a UDP socket after [`Queues::reads`]. Before that, a UDP socket gets datagrams only while
    /// no other worker reads at the address.
    ///
    /// # Errors
    /// If the kernel refuses the socket. It is not kept then.
    pub(crate) fn bound(&self, run: Run, socket: OwnedFd) -> io::Result<()> {
        self.state.borrow_mut().bound(run, socket)
    }

    /// Makes this socket of the worker listen, with a queue of at least `backlog` connections. Returns its address, or
    /// `None` if the socket is not known here. A repeated call only changes the backlog.
    ///
    /// # Errors
    /// Those of listen(2).
    pub(crate) fn listening(&self, run: Run, socket: impl AsFd, backlog: i32) -> io::Result<Option<Key>> {
        self.state.borrow_mut().listening(run, socket, backlog)
    }

    /// The worker reads datagrams at this address. False if it no longer has a socket there.
    pub(crate) fn reads(&self, run: Run, key: &Key) -> bool {
        self.state.borrow_mut().reads(run, *key)
    }

    /// Addresses where the worker has bound a UDP socket for which [`Queues::reads`] was not called yet.
    pub(crate) fn unread_datagram_keys(&self, run: Run) -> Vec<Key> {
        let state = self.state.borrow();
        let pending = |queue: &Queue| queue.holders.iter().any(|holder| holder.run == run && !holder.listens);
        state.queues.iter().filter(|queue| !queue.key.tcp && pending(queue)).map(|queue| queue.key).collect()
    }

    /// A listening socket for this worker: a vacant queue at this address, with what waits in it, or a new one. A new
    /// one stays out of rotation until [`Queues::serve`] or [`Queues::listening`].
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub(crate) fn open(&self, run: Run, key: &Key) -> io::Result<OwnedFd> {
        self.state.borrow_mut().open_for(run, *key)
    }

    /// Opens a placeholder socket, in which connections to this address wait until a worker inherits it.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub(crate) fn open_placeholder(&self, key: &Key) -> io::Result<()> {
        self.state.borrow_mut().open_placeholder(*key)
    }

    /// The worker accepts from all the sockets it holds.
    pub(crate) fn serve(&self, run: Run) {
        self.state.borrow_mut().serve(run);
    }

    /// Keeps the worker out of rotation until [`Queues::admit`]. It need not be known yet. Where the kernel cannot move
    /// waiting connections, the worker still gets those that no other worker could take.
    pub(crate) fn mark_not_ready(&self, run: Run) {
        self.state.borrow_mut().mark_not_ready(run);
    }

    /// Keeps the worker out of rotation until [`Queues::admit`], at addresses where another accepts.
    pub(crate) fn eject(&self, run: Run) {
        self.state.borrow_mut().eject(run);
    }

    /// The worker is ready and healthy: undoes [`Queues::mark_not_ready`] and [`Queues::eject`].
    pub(crate) fn admit(&self, run: Run) {
        self.state.borrow_mut().admit(run);
    }

    /// Connects to this worker, whether it is in rotation or not, at this address, or at the first that it bound.
    pub(crate) fn connect_to(
        &self,
        run: Run,
        at: Option<Key>,
    ) -> impl Future<Output = Result<DirectConnection, Unreachable>> + use<> {
        probe::connect_to(Rc::downgrade(&self.state), run, at)
    }

    /// How many connections wait in the queue that [`Queues::connect_to`] connects to. `None` if there is none any more.
    pub(crate) fn waiting_at(&self, run: Run, at: Option<Key>) -> Option<u32> {
        self.state.borrow().listening_queue(run, at).map(|(queue, _)| queue.waiting())
    }

    /// The daemon's own connections to workers, which do not count as use of the app.
    pub(crate) fn own_connections(&self) -> OwnConnections {
        self.state.borrow().own_connections.clone()
    }

    /// True if there are queues at this address.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.state.borrow().groups.contains_key(key)
    }

    /// All addresses with queues.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.state.borrow().groups.keys().copied().collect()
    }

    /// Copies of all listening TCP sockets and of all UDP sockets.
    pub(crate) fn sockets(&self) -> Vec<OwnedFd> {
        let state = self.state.borrow();
        let listening = state.queues.iter().filter(|queue| queue.member.is_some());
        listening.filter_map(|queue| queue.socket.try_clone().ok()).collect()
    }

    /// How many connections wait in all queues to be accepted.
    pub(crate) fn waiting(&self) -> u32 {
        self.state.borrow().waiting()
    }

    /// How many connections the kernel has distributed; `None` if a group has no program that counts them.
    pub(crate) fn dealt(&self) -> Option<u64> {
        self.state.borrow().groups.values().map(|group| group.kernel.dealt()).sum()
    }

    /// Gives the worker the fullest vacant queue at this address.
    pub(crate) fn inherit(&self, run: Run, key: &Key) -> Option<OwnedFd> {
        self.state.borrow_mut().inherit(run, key)
    }

    /// Makes the worker share the queue at this address that others serve or have bound.
    pub(crate) fn join_shared(&self, run: Run, key: &Key) -> Option<OwnedFd> {
        self.state.borrow_mut().join_shared(run, key)
    }

    /// True if there is a queue at this address, at one that includes it or at one that it includes.
    pub(crate) fn overlaps_any(&self, key: &Key) -> bool {
        self.state.borrow().queues.iter().any(|queue| queue.key.overlaps(key))
    }

    /// Address and inode of each socket that the worker holds.
    pub(crate) fn held_by(&self, run: Run) -> Vec<(Key, u64)> {
        self.state.borrow().held_by(run).map(|queue| (queue.key, queue.inode)).collect()
    }

    /// True if the worker is known to listen on this socket.
    pub(crate) fn is_listening_on(&self, run: Run, socket: impl AsFd) -> bool {
        let state = self.state.borrow();
        table::inode(socket).is_ok_and(|inode| state.listening_keys(run).any(|queue| queue.inode == inode))
    }

    /// Addresses where the worker listens or reads datagrams.
    pub(crate) fn listening_keys(&self, run: Run) -> Vec<Key> {
        self.state.borrow().listening_keys(run).map(|queue| queue.key).collect()
    }

    /// Releases the queues whose sockets the worker has closed, if that can be found out: programs close a socket
    /// without a call that pmr intercepts, for instance after a test whether a port is free. `asking` is a thread of
    /// the worker that need not be a descendant of its root.
    pub(crate) fn release_closed(&self, run: Run, asking: Option<i32>) {
        self.state.borrow_mut().release_closed(run, asking);
    }

    /// Takes the worker out of rotation, for good.
    pub(crate) fn exclude(&self, run: Run) {
        self.state.borrow_mut().exclude(run);
    }

    /// Takes the worker out of rotation and waits until it has finished its connections. Ends in one
    /// [`Notice::Drained`], after `grace` at the latest, unless [`Queues::gone`] comes first.
    pub(crate) fn drain(&self, run: Run, grace: Duration) {
        drain::start(&self.state, run, grace);
    }

    /// The worker has ended. What waits in its queues goes to other workers or to its successor.
    pub(crate) fn gone(&self, run: Run) {
        self.state.borrow_mut().gone(run);
    }

    /// Closes all queues. The kernel resets what waits in them.
    pub(crate) fn close(&self) {
        self.state.borrow_mut().close();
    }

    /// The addresses of the app, with their mechanism and numbers.
    pub(crate) fn listeners(&self) -> Vec<ListenerInfo> {
        self.state.borrow().listeners()
    }

    /// The worker's waiting and open connections; `None` if it holds no queue.
    pub(crate) fn stats(&self, run: Run) -> Option<QueueStats> {
        self.state.borrow().stats(run)
    }
}
