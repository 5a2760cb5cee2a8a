//! Which listeners are open. A listener is opened at the first worker's request and kept as long as the app exists.
//!
//! A listener outlives its workers: while there is none, connections wait in the kernel for the next. It is closed
//! - when the app as a whole is deleted;
//! - when the workers close their servers on purpose and go on running. A worker that closes its server may also be
//!   about to exit (a handler of SIGTERM does just that), so the last worker gets a second to exit or to listen again;
//! - when a new version of the app listens elsewhere: no worker has held the old listener for [`ORPHAN_TIMEOUT`], while
//!   others serve.
//!
//! Where workers accept by themselves ([`Balance::Shared`]) and none does, connections that wait too long are rejected.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::dispatch;
use super::listen_request::{ListenRequest, Number};
use super::listener::{Dealt, Endpoint, Holder, Listener, ORPHAN_TIMEOUT, Vacant};
use super::state::{ClusterState, WeakClusterState};
use crate::cluster::balancer::ListenerId;
use crate::cluster::waiting::Arrivals;
use crate::os::net::socket;
use crate::os::net::socket::{Listening, LocalAddress};
use crate::protocol::Run;
use crate::spec::Balance;

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

impl ClusterState {
    /// Opens a listener that no worker has requested before. `balance` is how its connections get to the workers.
    ///
    /// # Errors
    /// The errno for the worker.
    pub(crate) fn open(&mut self, request: &ListenRequest<'_>, balance: Balance) -> Result<ListenerId, i32> {
        // A descriptor number means one of the primary's, and none of the daemon's is for apps.
        if request.fd.is_some_and(|fd| fd >= 0) {
            return Err(libc::EINVAL);
        }
        let id = ListenerId(self.next_listener + 1);
        let (endpoint, address) = self.endpoint(id, request, balance).inspect_err(|errno| {
            tracing::debug!(errno, address = request.address.as_deref(), port = request.port, "cannot listen");
        })?;
        self.next_listener = id.0;
        let name = request.name();
        let key = serde_json::Value::from(format!("{name}#{}", id.0)).to_string();
        let data = request.data.map(ToOwned::to_owned);
        let kept = self.store.guard(self.store.listener_name(id));
        let holders = Vec::new();
        self.listeners.insert(id, Listener { id, name, key, address, kept, endpoint, data, holders, vacant: None });
        self.put_record();
        let listener = &self.listeners[&id];
        listener.kept.keep(listener.endpoint.socket());
        Ok(id)
    }

    fn endpoint(
        &self,
        id: ListenerId,
        request: &ListenRequest<'_>,
        balance: Balance,
    ) -> Result<(Endpoint, LocalAddress), i32> {
        if request.is_udp() {
            let (socket, at) =
                socket::bind_udp(request.ip()?, request.v6only(), request.reuses_address()).map_err(|e| errno(&e))?;
            let endpoint = Endpoint::datagrams(socket);
            return Ok((endpoint, LocalAddress::Ip(at)));
        }
        let configured = self.options.queue.backlog.map_or(0, i64::from);
        let requested = request.backlog.map_or(0, Number::value).max(configured);
        let backlog = i32::try_from(requested.max(0)).unwrap_or(i32::MAX);
        let listening = Listening::open(&request.place()?, backlog).map_err(|e| errno(&e))?;
        let address = listening.address().clone();
        let endpoint = match balance {
            Balance::RoundRobin | Balance::Sticky | Balance::Least => {
                self.deal(id, listening).map_err(|e| errno(&e))?
            }
            Balance::Shared => Endpoint::share(listening),
        };
        Ok((endpoint, address))
    }

    /// Starts the task that accepts from this socket and deals its connections out.
    pub(crate) fn deal(&self, id: ListenerId, listening: Listening) -> std::io::Result<Endpoint> {
        let socket = Rc::new(listening.watch()?);
        let changed = Rc::new(Notify::new());
        let task = dispatch::accept(self.me.clone(), id, Rc::clone(&socket), Rc::clone(&changed));
        let acceptor = AbortOnDropHandle::new(tokio::task::spawn_local(task));
        let (waiting, backoff) = (Vec::new(), dispatch::FIRST_BACKOFF);
        Ok(Endpoint::Dealt(Dealt {
            socket,
            waiting,
            retry_at: None,
            backoff,
            idle: false,
            changed,
            _acceptor: acceptor,
        }))
    }

    /// The listener that this request means: one that the worker holds because of this very request, which the previous
    /// daemon read, too; else one of the same description that the worker does not hold yet.
    pub(crate) fn listener_for(&self, run: Run, request: &ListenRequest<'_>) -> Option<ListenerId> {
        let name = request.name();
        let mut known = self.listeners.values().filter(|listener| listener.name == name);
        let same = |holder: &Holder| holder.run == run && holder.request == request.seq;
        let again = known.clone().find(|listener| listener.holders.iter().any(same));
        again.or_else(|| known.find(|listener| !listener.is_held_by(run))).map(|listener| listener.id)
    }

    /// The listener that the worker holds because of the request with this number.
    pub(crate) fn listener_of_request(&self, run: Run, request: u64) -> Option<ListenerId> {
        let mut all = self.listeners.values();
        all.find(|l| l.holders.iter().any(|holder| holder.run == run && holder.request == request)).map(|l| l.id)
    }

    /// The worker listens there from now on.
    pub(crate) fn add_holder(&mut self, run: Run, request: u64, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(&id).filter(|listener| !listener.is_held_by(run)) {
            listener.holders.push(Holder { run, request });
            listener.vacant = None;
        }
        self.update_shedders();
        self.save();
        if self.listeners.values().any(|listener| listener.vacant.is_some()) {
            self.check_vacant_in(ORPHAN_TIMEOUT);
        }
    }

    /// The worker closed the listener of this key while it went on running.
    pub(crate) fn closed_by_key(&mut self, run: Run, key: &str) {
        let key = serde_json::Value::from(key).to_string();
        if let Some(id) = self.listeners.values().find(|listener| listener.key == key).map(|listener| listener.id) {
            self.closed_by(run, id);
        }
    }

    /// The worker closed this listener while it went on running.
    pub(crate) fn closed_by(&mut self, run: Run, id: ListenerId) {
        self.balancer.withdraw(id, run);
        let on_purpose = self.balancer.is_included(run);
        self.remove_holder(id, run, on_purpose.then_some(run));
        self.save();
        self.wake_listener(id);
    }

    /// The worker is gone: its listeners wait for its successor.
    pub(crate) fn remove_holder_everywhere(&mut self, run: Run) {
        self.keep_listeners_closed_by(run);
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.remove_holder(id, run, None);
        }
    }

    /// The worker leaves: it closed its listeners because it was about to, so they stay open for its successor.
    pub(crate) fn keep_listeners_closed_by(&mut self, run: Run) {
        for vacant in self.listeners.values_mut().filter_map(|listener| listener.vacant.as_mut()) {
            if vacant.closed_by == Some(run) {
                vacant.closed_by = None;
            }
        }
    }

    fn remove_holder(&mut self, id: ListenerId, run: Run, closed_by: Option<Run>) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let before = listener.holders.len();
        listener.holders.retain(|holder| holder.run != run);
        if before > 0 && listener.holders.is_empty() {
            let vacant = Vacant::now(closed_by);
            listener.vacant = Some(vacant);
            self.check_vacant_in(vacant.timeout());
            self.update_shedders();
        }
    }

    /// Starts the timers that the previous daemon had started.
    pub(crate) fn resume_vacancy_timers(&self) {
        for vacant in self.listeners.values().filter_map(|listener| listener.vacant.as_ref()) {
            self.check_vacant_in(vacant.timeout().saturating_sub(vacant.elapsed()));
        }
    }

    fn check_vacant_in(&self, time: Duration) {
        let state = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            if let Some(state) = state.upgrade() {
                state.borrow_mut().close_vacant();
            }
        });
    }

    /// Closes the listeners whose time without a worker is over.
    fn close_vacant(&mut self) {
        let others_serve =
            self.listeners.values().any(|l| l.holders.iter().any(|holder| self.balancer.is_included(holder.run)));
        let is_over = |vacant: &Vacant| (vacant.closed_by.is_some() || others_serve) && vacant.is_over();
        let over: Vec<ListenerId> =
            self.listeners.values().filter(|l| l.vacant.as_ref().is_some_and(is_over)).map(|l| l.id).collect();
        self.close_listeners(&over);
    }

    pub(crate) fn close_listeners(&mut self, ids: &[ListenerId]) {
        for id in ids {
            self.balancer.close(*id);
            self.listeners.remove(id);
        }
        if !ids.is_empty() {
            self.save();
        }
    }

    /// Starts or stops rejecting connections that wait too long at listeners that workers accept from by themselves:
    /// it is done while none of them serves. To be called after each change.
    pub(crate) fn update_shedders(&mut self) {
        let (rule, balancer) = (self.options.queue, &self.balancer);
        for listener in self.listeners.values_mut() {
            let served = listener.holders.iter().any(|holder| balancer.is_included(holder.run));
            let (me, id) = (self.me.clone(), listener.id);
            match &mut listener.endpoint {
                Endpoint::Shared { shedder, udp: false, .. } if served || rule.timeout.is_none() => shedder.stop(),
                Endpoint::Shared { shedder, socket, udp: false, .. } => {
                    shedder.start(socket.as_fd(), rule, move |arrivals| save_arrivals(&me, id, arrivals));
                }
                Endpoint::Shared { udp: true, .. } | Endpoint::Dealt(_) => {}
            }
        }
    }
}

/// Saves since when connections wait at a listener.
fn save_arrivals(state: &WeakClusterState, id: ListenerId, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(Endpoint::Shared { shedder, .. }) = state.listeners.get_mut(&id).map(|known| &mut known.endpoint) {
        shedder.set_arrivals(arrivals);
        state.save();
    }
}
