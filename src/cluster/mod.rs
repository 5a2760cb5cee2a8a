//! Shared listening sockets and the channels to the workers that share them.
//!
//! A [`Cluster`] belongs to one app. Workers come and go; what they listen on stays. Connections reach them in one of
//! two ways. Through the daemon (`dealt`), where the worker speaks Node's cluster protocol or pmr's own:
//!
//! ```text
//!  kernel queue ─► dispatch ─► balancer: whose turn? ─► node or channel ─► worker
//!                     ▲                                  │
//!                     └── refused, dead, out of rotation ◄┘ answers
//! ```
//!
//! Or past the daemon (`kernel`), from an accept queue of each worker's own, of which the daemon holds a copy and
//! among which the kernel distributes: sockets that programs bind and that are intercepted, or that programs are given
//! (socket activation).
//!
//! The owner reports which worker joins, leaves and is gone. The cluster reports by [`Notice`]s what workers send, and
//! reads no more from a worker than the owner can handle. All of it runs on one thread, inside a
//! [`tokio::task::LocalSet`].

mod balancer;
pub(crate) mod dealt;
pub(crate) mod kernel;
pub(crate) mod notice;
pub(crate) mod options;
mod own_connections;
pub(crate) mod persist;
mod waiting;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use self::dealt::member::Member;
use self::dealt::node::channel::Channel;
use self::dealt::node::reply;
use self::dealt::state::ClusterState;
use self::dealt::{drain, recover, workers};
pub use self::kernel::activation::{Activation, activation_key};
use self::kernel::intercept::BindInterceptor;
pub use self::kernel::intercept::handover_name;
use self::kernel::queues::Queues;
pub use self::kernel::queues::queues_key;
pub use self::notice::Notice;
pub use self::options::{ClusterOptions, WorkerProtocol};
pub use self::own_connections::{OwnConnection, Unreachable};
use self::own_connections::{Target, bind_client};
use self::persist::StateStore;
pub use self::persist::{Persistence, RecoveredCluster, channel_name, own_channel_name, record_key};
use crate::os::net::reuseport::KernelBalancing;
use crate::os::seccomp::{BindWatch, Pending};
use crate::protocol::{ListenerInfo, Run};

/// The preload module for Node workers (`--require`): it lets keep-alive and HTTP/2 connections end without loss when a
/// worker is drained. Inert in any other process. Plain CommonJS for Node 16 and later.
pub const PRELOAD: &str = include_str!("preload.cjs");

/// The cluster of one app. Clones are the same cluster. When the last is dropped, its listeners close.
#[derive(Clone, Debug)]
pub struct Cluster {
    state: Rc<RefCell<ClusterState>>,
    queues: Queues,
    interceptor: BindInterceptor,
    activation: Activation,
}

impl Cluster {
    /// A cluster without workers or listeners.
    #[must_use]
    pub fn new(
        options: ClusterOptions,
        app: u32,
        persistence: Persistence,
        notices: UnboundedSender<Notice>,
    ) -> Cluster {
        let store = StateStore { app, persistence };
        let queues = Queues::new(store.clone(), KernelBalancing::RoundRobin, notices.clone());
        let interceptor = BindInterceptor::new(store.clone(), queues.clone(), options.sharing.clone(), notices.clone());
        let activation = Activation::new(queues.clone(), store.clone(), notices.clone());
        queues.set_rule(options.queue);
        activation.set_rule(options.queue);
        queues.set_deal(options.deal());
        Cluster { state: ClusterState::new(options, store, notices), queues, interceptor, activation }
    }

    /// The cluster that the previous daemon left, with all it was about to do. What belongs to it is taken out of
    /// `recovered`. Notices that may not have been handled are sent again. Must be called inside the runtime's `LocalSet`.
    ///
    /// # Errors
    /// A sentence for people, if a record cannot be read.
    pub fn recover(
        options: ClusterOptions,
        app: u32,
        persistence: Persistence,
        notices: UnboundedSender<Notice>,
        recovered: RecoveredCluster<'_>,
    ) -> Result<Cluster, String> {
        let store = StateStore { app, persistence };
        let queues = match recovered.records.get(&queues_key(app)) {
            Some(record) => {
                Queues::adopt(store.clone(), KernelBalancing::RoundRobin, notices.clone(), record, recovered.files)?
            }
            None => Queues::new(store.clone(), KernelBalancing::RoundRobin, notices.clone()),
        };
        queues.set_rule(options.queue);
        let interceptor = BindInterceptor::new(store.clone(), queues.clone(), options.sharing.clone(), notices.clone());
        interceptor.adopt(recovered.records, recovered.files);
        let activation = Activation::new(queues.clone(), store.clone(), notices.clone());
        if let Some(record) = recovered.records.get(&activation_key(app)) {
            activation.adopt(record, recovered.files)?;
        }
        activation.set_rule(options.queue);
        let deal = options.deal();
        let state = recover::recover(options, store, notices, recovered)?;
        // Queues recorded by earlier versions have no instance numbers.
        state.borrow().members.iter().for_each(|(run, member)| queues.set_instance(*run, member.instance));
        queues.set_deal(deal);
        Ok(Cluster { state, queues, interceptor, activation })
    }

    /// True if the ledger has a record of this app's cluster.
    #[must_use]
    pub fn is_known(app: u32, records: &BTreeMap<String, String>) -> bool {
        [record_key(app), queues_key(app), activation_key(app)].iter().any(|key| records.contains_key(key))
    }

    /// The sockets that the app is given (socket activation).
    #[must_use]
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// A worker was started with the other end of `ipc` as its IPC descriptor. `instance` is its number among the app's
    /// processes, which its successor inherits.
    ///
    /// Must be called inside the runtime's `LocalSet`.
    pub fn join(&self, run: Run, instance: u32, ipc: OwnedFd, protocol: WorkerProtocol) {
        self.queues.set_instance(run, instance);
        let mut state = self.state.borrow_mut();
        let kept = state.store.keep(channel_name(run), &ipc);
        match Channel::new(ipc, run, kept) {
            Ok(ipc) => {
                let transport = workers::transport(&state, run, protocol);
                workers::join(&mut state, run, instance, ipc, transport);
                state.save();
            }
            Err(error) => {
                tracing::error!(run = run.0, %error, "cannot watch the IPC channel of a worker: closed");
                state.notify(Notice::Disconnected { run });
            }
        }
    }

    /// A worker was started under this watch, with `root` as the pid of its main process: what it binds and listens on
    /// is shared with the other workers.
    ///
    /// Must be called inside the runtime's `LocalSet`.
    pub fn watch(&self, run: Run, root: i32, watch: BindWatch) {
        self.interceptor.watch(run, root, watch);
    }

    /// The same for a worker whose watch the previous daemon had not received yet when it died.
    pub fn expect_watch(&self, run: Run, root: i32, pending: Pending) {
        self.interceptor.expect(run, root, pending);
    }

    /// The worker listens before it is ready: no connection goes to it before [`Cluster::admit`]. To be called before
    /// the worker starts. Where all accept from one queue, or only the kernel's hash distributes, this has no effect.
    pub fn mark_not_ready(&self, run: Run) {
        self.queues.mark_not_ready(run);
        self.state.borrow_mut().mark_not_ready(run);
    }

    /// The worker is unhealthy: at each address where another worker serves, no new connection goes to this one before
    /// [`Cluster::admit`]. The connections it has go on, and its health can be checked ([`Cluster::probe`]). Where all
    /// accept from one queue, or only the kernel's hash distributes, this has no effect.
    pub fn eject(&self, run: Run) {
        self.queues.eject(run);
        self.state.borrow_mut().eject(run);
    }

    /// The worker is ready, or healthy again: it takes its turns from now on.
    pub fn admit(&self, run: Run) {
        self.queues.admit(run);
        self.state.borrow_mut().admit(run);
    }

    /// Takes a worker that is about to be stopped out of rotation: no new connection goes to it. The listeners that it
    /// closes from now on stay open for its successor.
    pub fn exclude(&self, run: Run) {
        if self.activation.knows(run) {
            self.activation.exclude(run);
        } else {
            self.queues.exclude(run);
        }
        self.state.borrow_mut().exclude(run);
    }

    /// Takes a worker out of rotation and lets it finish: its connections end where the protocol allows, then it
    /// disconnects. Ends with one [`Notice::Drained`], after `grace` at the latest, unless [`Cluster::gone`] is called
    /// before.
    pub fn drain(&self, run: Run, grace: Duration) {
        if self.activation.knows(run) {
            return self.activation.drain(run, grace);
        }
        self.exclude(run);
        let takes_connections = self.state.borrow().members.get(&run).is_some_and(Member::takes_connections);
        if takes_connections || self.queues.listening_keys(run).is_empty() {
            drain::start(&mut self.state.borrow_mut(), run, grace);
        } else {
            self.queues.drain(run, grace);
        }
    }

    /// Sends a message to the app, which gets it from `process.on('message')`.
    pub fn send(&self, run: Run, message: &Value) {
        if let Some(member) = self.state.borrow().members.get(&run) {
            member.send_line(reply::user(message));
        }
    }

    /// The worker's process has ended. What it sent last is read, what it had not taken goes to others, then the worker
    /// is removed.
    pub fn gone(&self, run: Run) {
        self.interceptor.gone(run);
        if self.activation.knows(run) {
            self.activation.gone(run);
        } else {
            self.queues.gone(run);
        }
        workers::remove(&self.state, run);
    }

    /// What the app listens on through the cluster, for people.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let state = self.state.borrow();
        let on_channel = |run| state.members.get(&run).is_some_and(|member| member.transport.pmr().is_some());
        let listeners = state.listeners.values();
        let mut all: Vec<_> = listeners.map(|listener| listener.info(state.options.balance, on_channel)).collect();
        all.extend(self.activation.listeners());
        all
    }

    /// The worker's load where it accepts by itself: connections that wait in its own queues, and connections that it
    /// has open. `None` if it has no queue of its own.
    #[must_use]
    pub fn load(&self, run: Run) -> Option<(u32, u32)> {
        self.queues.stats(run).map(|stats| (stats.waiting, stats.open))
    }

    /// How many connections this worker has taken from the daemon so far. Those it accepts by itself are not counted.
    #[must_use]
    pub fn connections(&self, run: Run) -> u64 {
        self.state.borrow().members.get(&run).map_or(0, |member| member.connections)
    }

    /// Changes the options. Open listeners stay as they are.
    pub fn set_options(&self, options: ClusterOptions) {
        let mut state = self.state.borrow_mut();
        let counted = state.balancer.needs_open_count();
        state.balancer.set_rules(options.rules());
        self.interceptor.set_rules(options.sharing.clone());
        self.queues.set_rule(options.queue);
        self.activation.set_rule(options.queue);
        self.queues.set_deal(options.deal());
        state.options = options;
        state.update_shedders();
        // A worker that got the request before goes on reporting.
        if !counted {
            state.members.keys().for_each(|run| state.request_open_count(*run));
        }
    }

    /// The app is deleted: its listeners close, socket files are removed, waiting connections are reset.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        let ids: Vec<_> = state.listeners.keys().copied().collect();
        state.close_listeners(&ids);
        self.activation.close();
    }

    /// The owner has handled a notice of this worker ([`Notice::sender`]). To be called for each such notice: a worker
    /// with too many unhandled ones is not read from.
    pub fn notice_handled(&self, run: Run) {
        if let Some(member) = self.state.borrow().members.get(&run) {
            member.unhandled.send_modify(|count| *count = count.saturating_sub(1));
        }
    }

    /// A new connection to a worker, as if it had come in at an address that the worker listens on, whether the worker
    /// is in rotation or not. Waits for a worker that grants credit and has none left, and for one whose queue is full.
    ///
    /// # Errors
    /// See [`Unreachable`].
    pub async fn probe(&self, run: Run) -> Result<OwnConnection, Unreachable> {
        let handed = self.state.borrow_mut().probe(run);
        match handed {
            Some(stream) => {
                let stream = stream.await.map_err(|_| Unreachable::Nowhere)??;
                Ok(TcpStream::from_std(stream)?.into())
            }
            None => self.queues.connect_to(run, None).await.map(|direct| direct.connection),
        }
    }

    /// A new connection to an address, `host:port`, as any client could make it. Where the address is one of the app's
    /// activation sockets, the connection counts as no use of the app.
    ///
    /// # Errors
    /// That of the last of the addresses that the host has.
    pub async fn connect(&self, address: &str) -> io::Result<OwnConnection> {
        let mut failed = io::ErrorKind::NotFound.into();
        for to in tokio::net::lookup_host(address).await? {
            match self.connect_at(reachable(to)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_at(&self, to: SocketAddr) -> io::Result<OwnConnection> {
        let has_queue = self.queues.keys().iter().any(|key| key.tcp && key.includes(to));
        match bind_client(to) {
            Ok(client) if has_queue => self.queues.own_connections().connect(client, to, Target::Rotation).await,
            // An address of another machine, or one that the app has no queue at.
            Ok(_) | Err(_) => Ok(TcpStream::connect(to).await?.into()),
        }
    }
}

/// Where a connection to this address goes: a wildcard address means this machine.
fn reachable(mut to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    to
}

#[cfg(test)]
mod tests;
