//! The listeners of a cluster: opened when the first worker asks, kept as long as the app exists.
//!
//! A listener outlives its workers: while none is there, connections wait in the kernel for the next. It is closed
//! - when the app as a whole is deleted;
//! - when the workers close their servers on purpose and go on living. A worker that closes its server may also be on
//!   its way out (a handler of SIGTERM does just that), so we give the last one [`SECOND_THOUGHTS`] to exit or to listen
//!   again before we believe it;
//! - when a new version of the app listens elsewhere: nobody holds the old one for [`FORSAKEN`], while others serve.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::balancer::ListenerId;
use super::super::persist::store::KeptFd;
use super::super::waiting::Shedder;
use super::dispatcher;
use super::node::message::{Number, Query};
use super::state::{ClusterState, Connection};
use crate::os::clock;
use crate::os::net::diag;
use crate::os::net::socket;
use crate::os::net::socket::{Listening, LocalAddress, SocketFile};
use crate::protocol::{ListenerInfo, Run};
use crate::spec::Balance;

/// How long a listener stays after the last worker closed it.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);
/// How long a listener stays that no worker has come back to, while others of the app serve.
const FORSAKEN: Duration = Duration::from_secs(30);

/// One address the app listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    /// What the worker asked for: equal questions share one listener.
    pub(crate) name: String,
    /// The name workers know it by, unique, as JSON.
    pub(crate) key: String,
    pub(crate) address: LocalAddress,
    /// Dropped before the socket.
    pub(crate) kept: KeptFd,
    pub(crate) endpoint: Endpoint,
    /// The first worker's TLS ticket keys, for all.
    pub(crate) data: Option<Box<RawValue>>,
    /// Workers that listen on it.
    pub(crate) holders: Vec<Holder>,
    /// Since when nobody does, and who closed it on purpose, if one did.
    pub(crate) vacant: Option<Vacant>,
}

/// A worker that listens somewhere.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) run: Run,
    /// The number of its question, so that the same question is known again.
    pub(crate) asked: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Vacant {
    /// In ms of the monotonic clock.
    since: u64,
    #[serde(default)]
    closed_by: Option<Run>,
}

impl Vacant {
    /// From now on.
    pub(crate) fn now(closed_by: Option<Run>) -> Vacant {
        Vacant { since: clock::monotonic_ms(), closed_by }
    }

    fn lasts(&self) -> Duration {
        Duration::from_millis(clock::monotonic_ms().saturating_sub(self.since))
    }

    fn patience(&self) -> Duration {
        if self.closed_by.is_some() { SECOND_THOUGHTS } else { FORSAKEN }
    }
}

/// How connections get to the workers.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// We accept and deal them out.
    Dealt(Dealt),
    /// Each worker accepts for itself.
    Shared {
        /// Our copy keeps the queue alive.
        socket: Rc<OwnedFd>,
        /// Datagrams.
        udp: bool,
        /// The socket's file, if it has one.
        file: Option<SocketFile>,
        /// Turns away who waits too long while nobody accepts.
        shedder: Shedder,
    },
}

/// A listener whose connections we deal out.
#[derive(Debug)]
pub(crate) struct Dealt {
    pub(crate) socket: Rc<AsyncFd<Listening>>,
    /// Connections nobody could take yet; they go before new ones.
    pub(crate) waiting: Vec<Connection>,
    /// All turned one down: no attempt before that time unless there is news.
    pub(crate) retry_at: Option<Instant>,
    pub(crate) backoff: Duration,
    /// Its task waits for news.
    pub(crate) idle: bool,
    pub(crate) news: Rc<Notify>,
    _acceptor: AbortOnDropHandle<()>,
}

impl Endpoint {
    /// Each worker gets a copy of the socket; ours keeps its queue, and its file.
    pub(crate) fn share(listening: Listening) -> Endpoint {
        let (socket, file) = listening.into_parts();
        Endpoint::Shared { socket: Rc::new(socket), udp: false, file, shedder: Shedder::default() }
    }

    /// The same for datagrams.
    pub(crate) fn datagrams(socket: OwnedFd) -> Endpoint {
        Endpoint::Shared { socket: Rc::new(socket), udp: true, file: None, shedder: Shedder::default() }
    }

    /// The socket that listens.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Endpoint::Dealt(dealt) => dealt.socket.get_ref().as_fd(),
            Endpoint::Shared { socket, .. } => socket.as_fd(),
        }
    }

    /// The file it made at a Unix path.
    pub(crate) fn file(&self) -> Option<&SocketFile> {
        match self {
            Endpoint::Dealt(dealt) => dealt.socket.get_ref().file(),
            Endpoint::Shared { file, .. } => file.as_ref(),
        }
    }
}

impl Dealt {
    /// The address to tell workers, if it is one of IP.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self.socket.get_ref().address() {
            LocalAddress::Ip(address) => Some(*address),
            LocalAddress::Path(_) => None,
        }
    }
}

impl Listener {
    pub(crate) fn dealt(&mut self) -> Option<&mut Dealt> {
        match &mut self.endpoint {
            Endpoint::Dealt(dealt) => Some(dealt),
            Endpoint::Shared { .. } => None,
        }
    }

    /// Connections that wait with us.
    pub(crate) fn waiting(&self) -> usize {
        match &self.endpoint {
            Endpoint::Dealt(dealt) => dealt.waiting.len(),
            Endpoint::Shared { .. } => 0,
        }
    }

    /// True if this worker listens there.
    pub(crate) fn is_held_by(&self, run: Run) -> bool {
        self.holders.iter().any(|holder| holder.run == run)
    }

    /// The number of the question by which this worker came to listen there.
    pub(crate) fn number_for(&self, run: Run) -> u32 {
        let holder = self.holders.iter().find(|holder| holder.run == run);
        holder.and_then(|holder| u32::try_from(holder.asked).ok()).unwrap_or(0)
    }

    /// True if this worker is dealt TCP connections there.
    pub(crate) fn deals_tcp_to(&self, run: Run) -> bool {
        let tcp = matches!((&self.endpoint, &self.address), (Endpoint::Dealt(_), LocalAddress::Ip(_)));
        tcp && self.is_held_by(run)
    }

    /// What is to be told of it. `on_channel` says whose connections come on pmr's own channel.
    pub(crate) fn info(&self, balance: Balance, on_channel: impl Fn(Run) -> bool) -> ListenerInfo {
        let (mechanism, prefix) = match &self.endpoint {
            Endpoint::Dealt(_) => (balance.in_words(), ""),
            Endpoint::Shared { udp: false, .. } => ("shared handle", ""),
            Endpoint::Shared { udp: true, .. } => ("shared handle", "udp "),
        };
        let road = if self.holders.iter().any(|holder| on_channel(holder.run)) { ", on pmr's own channel" } else { "" };
        ListenerInfo {
            address: format!("{prefix}{}", self.address),
            mechanism: format!("{mechanism}{road}"),
            workers: u32::try_from(self.holders.len()).unwrap_or(u32::MAX),
            why: None,
            waiting: diag::waiting(self.endpoint.socket()).unwrap_or(0),
            dealt: None,
        }
    }
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

impl ClusterState {
    /// Opens a listener that nobody has asked for before, for workers that get their connections in this way.
    ///
    /// # Errors
    /// The errno for the worker.
    pub(crate) fn open(&mut self, query: &Query<'_>, balance: Balance) -> Result<ListenerId, i32> {
        // A descriptor number means one of the primary's, and none of ours is for apps.
        if query.fd.is_some_and(|fd| fd >= 0) {
            return Err(libc::EINVAL);
        }
        let id = ListenerId(self.next_listener + 1);
        let (endpoint, address) = self.endpoint(id, query, balance).inspect_err(|errno| {
            tracing::debug!(errno, address = query.address.as_deref(), port = query.port, "cannot listen");
        })?;
        self.next_listener = id.0;
        let name = query.name();
        let key = serde_json::Value::from(format!("{name}#{}", id.0)).to_string();
        let data = query.data.map(ToOwned::to_owned);
        let kept = self.store.guard(self.store.listener_name(id));
        let holders = Vec::new();
        self.listeners.insert(id, Listener { id, name, key, address, kept, endpoint, data, holders, vacant: None });
        self.put_record();
        let listener = &self.listeners[&id];
        listener.kept.keep(listener.endpoint.socket());
        Ok(id)
    }

    fn endpoint(&self, id: ListenerId, query: &Query<'_>, balance: Balance) -> Result<(Endpoint, LocalAddress), i32> {
        if query.is_udp() {
            let (socket, at) =
                socket::bind_udp(query.ip()?, query.v6only(), query.reuses_address()).map_err(|e| errno(&e))?;
            let endpoint = Endpoint::datagrams(socket);
            return Ok((endpoint, LocalAddress::Ip(at)));
        }
        let configured = self.options.queue.backlog.map_or(0, i64::from);
        let asked = query.backlog.map_or(0, Number::value).max(configured);
        let backlog = i32::try_from(asked.max(0)).unwrap_or(i32::MAX);
        let listening = Listening::open(&query.place()?, backlog).map_err(|e| errno(&e))?;
        let address = listening.address().clone();
        let endpoint = match balance {
            Balance::RoundRobin | Balance::Sticky | Balance::Least => {
                self.deal(id, listening).map_err(|e| errno(&e))?
            }
            Balance::Shared => Endpoint::share(listening),
        };
        Ok((endpoint, address))
    }

    pub(crate) fn deal(&self, id: ListenerId, listening: Listening) -> std::io::Result<Endpoint> {
        let socket = Rc::new(listening.watch()?);
        let news = Rc::new(Notify::new());
        let task = dispatcher::accept(self.me.clone(), id, Rc::clone(&socket), Rc::clone(&news));
        let acceptor = AbortOnDropHandle::new(tokio::task::spawn_local(task));
        let (waiting, backoff) = (Vec::new(), dispatcher::FIRST_BACKOFF);
        Ok(Endpoint::Dealt(Dealt { socket, waiting, retry_at: None, backoff, idle: false, news, _acceptor: acceptor }))
    }

    /// The worker listens there now.
    pub(crate) fn claim(&mut self, run: Run, asked: u64, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(&id).filter(|listener| !listener.is_held_by(run)) {
            listener.holders.push(Holder { run, asked });
            listener.vacant = None;
        }
        self.look_out();
        self.note();
        if self.listeners.values().any(|listener| listener.vacant.is_some()) {
            self.look_again_in(FORSAKEN);
        }
    }

    /// The worker closed this listener by itself.
    pub(crate) fn closed(&mut self, run: Run, key: &str) {
        let key = serde_json::Value::from(key).to_string();
        if let Some(id) = self.listeners.values().find(|listener| listener.key == key).map(|listener| listener.id) {
            self.left(run, id);
        }
    }

    /// The same, by its number.
    pub(crate) fn left(&mut self, run: Run, id: ListenerId) {
        self.balancer.withdraw(id, run);
        let on_purpose = self.balancer.rotates(run);
        self.release(id, run, on_purpose.then_some(run));
        self.note();
        self.news(id);
    }

    /// The worker is gone: its listeners wait for its successor.
    pub(crate) fn release_listeners(&mut self, run: Run) {
        self.keep_listeners_closed_by(run);
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.release(id, run, None);
        }
    }

    /// What this worker closed, it closed because it was to leave.
    pub(crate) fn keep_listeners_closed_by(&mut self, run: Run) {
        for vacant in self.listeners.values_mut().filter_map(|listener| listener.vacant.as_mut()) {
            if vacant.closed_by == Some(run) {
                vacant.closed_by = None;
            }
        }
    }

    fn release(&mut self, id: ListenerId, run: Run, closed_by: Option<Run>) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let before = listener.holders.len();
        listener.holders.retain(|holder| holder.run != run);
        if before > 0 && listener.holders.is_empty() {
            let vacant = Vacant::now(closed_by);
            listener.vacant = Some(vacant);
            self.look_again_in(vacant.patience());
            self.look_out();
        }
    }

    /// Goes on waiting where another God began to.
    pub(crate) fn resume_patience(&self) {
        for vacant in self.listeners.values().filter_map(|listener| listener.vacant.as_ref()) {
            self.look_again_in(vacant.patience().saturating_sub(vacant.lasts()));
        }
    }

    fn look_again_in(&self, time: Duration) {
        let state = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            if let Some(state) = state.upgrade() {
                state.borrow_mut().close_vacant();
            }
        });
    }

    /// Closes the listeners nobody will come back to.
    fn close_vacant(&mut self) {
        let others_serve =
            self.listeners.values().any(|l| l.holders.iter().any(|holder| self.balancer.rotates(holder.run)));
        let is_over = |vacant: &Vacant| match vacant.closed_by {
            Some(_) => vacant.lasts() >= vacant.patience(),
            None => others_serve && vacant.lasts() >= vacant.patience(),
        };
        let over: Vec<ListenerId> =
            self.listeners.values().filter(|l| l.vacant.as_ref().is_some_and(is_over)).map(|l| l.id).collect();
        self.close_listeners(&over);
    }

    /// Closes these.
    pub(crate) fn close_listeners(&mut self, ids: &[ListenerId]) {
        for id in ids {
            self.balancer.close(*id);
            self.listeners.remove(id);
        }
        if !ids.is_empty() {
            self.note();
        }
    }
}
