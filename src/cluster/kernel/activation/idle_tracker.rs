//! Detects whether clients are connected or waiting, for apps that run on demand.
//!
//! Only apps with an idle timeout are tracked. While workers run, the daemon polls every second (more often for short
//! timeouts): open connections, those in TIME_WAIT included, and the number that the kernel has distributed, if pmr's
//! own BPF program counts them (`CAP_BPF`). Without that counter, a connection that comes and goes between two polls,
//! and that the client closes first, is not noticed. The daemon's own connections
//! ([`OwnConnections`](crate::cluster::own_connections::OwnConnections)) do not count.
//!
//! While no worker runs, nothing is polled: the task sleeps until a connection arrives at a socket.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::state::ActivationState;
use super::unix_listener::SharedUnixListener;
use crate::cluster::notice::Notice;
use crate::os::net::reuseport::Key;
use crate::os::net::{diag, socket};

/// The longest time between two polls.
const POLL: Duration = Duration::from_secs(1);
/// The least number of polls within an idle timeout.
const POLLS_PER_TIMEOUT: u32 = 8;
/// When every poll for this long has seen connections wait, the daemon requests another worker.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a requested worker has to start before the request is repeated.
const REPEAT_DEMAND: Duration = Duration::from_secs(1);

/// Tracks the app's use from now on, with this idle timeout; `None` ends the tracking.
pub(crate) fn track(shared: &Rc<RefCell<ActivationState>>, idle_timeout: Option<Duration>) {
    let mut state = shared.borrow_mut();
    if state.idle_timeout == idle_timeout && state.idle_task.is_some() == idle_timeout.is_some() {
        return;
    }
    state.idle_timeout = idle_timeout;
    state.idle_task = None;
    if let Some(idle) = idle_timeout {
        let task = track_use(Rc::downgrade(shared), Rc::clone(&state.workers_changed), idle);
        state.idle_task = Some(AbortOnDropHandle::new(tokio::task::spawn_local(task)));
    }
}

/// Sends [`Notice::Idle`] and [`Notice::Demand`] until the state is dropped.
async fn track_use(state: Weak<RefCell<ActivationState>>, workers_changed: Rc<Notify>, idle: Duration) {
    let mut tracker = IdleTracker { idle, quiet_since: Instant::now(), dealt: None, waiting_since: None };
    loop {
        let changed = workers_changed.notified();
        let Some(has_workers) = state.upgrade().map(|state| state.borrow().has_workers()) else { return };
        if has_workers {
            // A change of workers does not change since when the app has been idle.
            let _ = timeout(POLL.min(idle / POLLS_PER_TIMEOUT), changed).await;
            let Some(state) = state.upgrade() else { return };
            tracker.observe(&state.borrow());
        } else {
            tokio::select! {
                () = connection_arrives(&state) => {
                    if let Some(state) = state.upgrade() {
                        state.borrow().notify_demand();
                    }
                    let _ = timeout(REPEAT_DEMAND, changed).await;
                    tracker.quiet_since = Instant::now();
                }
                () = workers_changed.notified() => tracker.quiet_since = Instant::now(),
            }
        }
    }
}

/// What the polls have seen so far.
struct IdleTracker {
    /// The app's idle timeout.
    idle: Duration,
    /// When a poll last saw a client.
    quiet_since: Instant,
    /// Connections that the kernel had distributed by the last poll; `None` where they are not counted.
    dealt: Option<u64>,
    /// Since when every poll has seen connections wait.
    waiting_since: Option<Instant>,
}

impl IdleTracker {
    fn observe(&mut self, state: &ActivationState) {
        let seen = state.observe();
        // The daemon's own connections are no use of the app.
        let ours = state.queues.own_connections().take_dealt();
        let is_more = match (self.dealt, seen.dealt) {
            (Some(before), Some(now)) => now.checked_sub(before).is_none_or(|new| new > ours),
            (before, now) => before != now,
        };
        let waiting = seen.waiting > 0;
        if seen.connected || waiting || is_more {
            self.quiet_since = Instant::now();
        }
        self.dealt = seen.dealt;
        // A worker that is starting will take them.
        let since = self.waiting_since.filter(|_| waiting && !state.is_worker_starting());
        self.waiting_since = match since {
            Some(since) if since.elapsed() >= BACKLOG_TIMEOUT => {
                state.notify_demand();
                None
            }
            since => since.or_else(|| waiting.then(Instant::now)),
        };
        if self.quiet_since.elapsed() >= self.idle {
            self.quiet_since = Instant::now();
            state.notify(Notice::Idle { app: state.store.app });
        }
    }
}

/// What one poll saw.
struct Observation {
    /// A client is connected, or its connection is still in the kernel's table.
    connected: bool,
    /// How many connections of clients wait to be accepted.
    waiting: u32,
    /// How many connections the kernel has distributed, the daemon's own included; `None` where they are not counted.
    dealt: Option<u64>,
}

/// Ends when a connection waits at any of the app's sockets.
async fn connection_arrives(state: &Weak<RefCell<ActivationState>>) {
    loop {
        let Some(sockets) = state.upgrade().map(|state| state.borrow().waiting_sockets()) else { return };
        let watched: Vec<_> = sockets.into_iter().filter_map(|socket| socket::watch(socket).ok()).collect();
        if watched.is_empty() {
            sleep(POLL).await;
            continue;
        }
        let readable = watched.iter().map(|socket| Box::pin(socket.readable()));
        let _ = select_all(readable).await;
        if state.upgrade().is_none_or(|state| state.borrow().observe().waiting > 0) {
            return;
        }
        // The client left at once, or a worker that is stopping took the connection.
        sleep(POLL / POLLS_PER_TIMEOUT).await;
    }
}

impl ActivationState {
    fn notify_demand(&self) {
        self.notify(Notice::Demand { app: self.store.app });
    }

    /// True if a worker serves or is starting.
    fn has_workers(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded)
    }

    /// True if a worker is starting.
    fn is_worker_starting(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded && !worker.serves)
    }

    /// Copies of all sockets at which connections wait while there is no worker.
    fn waiting_sockets(&self) -> Vec<std::os::fd::OwnedFd> {
        let unix_listeners = self.unix_listeners.iter().filter_map(|listener| listener.socket().ok());
        self.queues.sockets().into_iter().chain(unix_listeners).collect()
    }

    /// What clients do at this moment. The daemon's own connections are counted before the queues: one that is accepted
    /// in between makes the result too small by one, but is never taken for a client's.
    fn observe(&self) -> Observation {
        let at = |key: Key| {
            let mut here = diag::connections(key.address.port()).unwrap_or_default();
            here.retain(|connection| key.includes(connection.local));
            here
        };
        let tcp = self.queues.keys().into_iter().filter(|key| key.tcp);
        let classified = self.queues.own_connections().classify(tcp.flat_map(at).collect());
        let waiting = self.queues.waiting().saturating_sub(classified.own_waiting);
        Observation {
            connected: classified.has_clients
                || self.unix_listeners.iter().any(|listener| diag::connected_unix(listener.path()) > 0),
            waiting: waiting + self.unix_listeners.iter().map(SharedUnixListener::waiting).sum::<u32>(),
            dealt: self.queues.dealt(),
        }
    }
}
