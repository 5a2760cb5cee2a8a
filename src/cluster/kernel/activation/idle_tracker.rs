//! Whether anybody is connected, and whether somebody waits: what an app on demand runs and rests by.
//!
//! Only apps with an idle timeout are looked after. While workers run, we look every second (more often for short
//! timeouts): at open connections, those that ended just now included, and at how many the kernel has dealt out where a
//! program of ours counts them (`CAP_BPF`). Without that, a connection that comes and goes between two looks, and that
//! the client is the first to close, is not seen. Connections that we make by ourselves ([`crate::cluster::Call`]) do not
//! count.
//!
//! While none runs, nobody looks at anything: we sleep until a socket has a connection.

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

/// How often is looked.
const POLL: Duration = Duration::from_secs(1);
const POLLS_PER_TIMEOUT: u32 = 8;
/// Where a queue is never seen empty for so long, one more is called.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(1);
/// How long somebody who was called has to come before he is called again.
const REPEAT_DEMAND: Duration = Duration::from_secs(1);

/// Tracks the app's use as long as it has an idle timeout.
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

/// Ends with the state, which aborts it.
async fn track_use(state: Weak<RefCell<ActivationState>>, workers_changed: Rc<Notify>, idle: Duration) {
    let mut watch = IdleTracker { idle, quiet_since: Instant::now(), dealt: None, waiting_since: None };
    loop {
        let told = workers_changed.notified();
        let Some(has_workers) = state.upgrade().map(|state| state.borrow().has_workers()) else { return };
        if has_workers {
            // Who comes or goes makes no difference to how long it has been quiet.
            let _ = timeout(POLL.min(idle / POLLS_PER_TIMEOUT), told).await;
            let Some(state) = state.upgrade() else { return };
            watch.observe(&state.borrow());
        } else {
            tokio::select! {
                () = connection_arrives(&state) => {
                    if let Some(state) = state.upgrade() {
                        state.borrow().notify_demand();
                    }
                    let _ = timeout(REPEAT_DEMAND, told).await;
                    watch.quiet_since = Instant::now();
                }
                () = workers_changed.notified() => watch.quiet_since = Instant::now(),
            }
        }
    }
}

/// What was seen so far.
struct IdleTracker {
    idle: Duration,
    quiet_since: Instant,
    /// Connections dealt out by the last look.
    dealt: Option<u64>,
    /// Since when some have waited by every look.
    waiting_since: Option<Instant>,
}

impl IdleTracker {
    fn observe(&mut self, state: &ActivationState) {
        let seen = state.observe();
        // What we had dealt out ourselves is nobody's use of it.
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
        // Who is about to serve will take them.
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

/// What there is of others than ourselves.
struct Observation {
    /// Somebody is connected, or was just now.
    connected: bool,
    /// How many wait to be accepted.
    waiting: u32,
    /// How many connections were dealt out, ours included; `None` where nobody counts them.
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
        // It left at once, or somebody on his way out took it.
        sleep(POLL / POLLS_PER_TIMEOUT).await;
    }
}

impl ActivationState {
    fn notify_demand(&self) {
        self.notify(Notice::Demand { app: self.store.app });
    }

    /// True if somebody serves, or is about to.
    fn has_workers(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded)
    }

    /// True if somebody is on his way to serve.
    fn is_worker_starting(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded && !worker.serves)
    }

    /// The sockets at which connections wait while nobody is there.
    fn waiting_sockets(&self) -> Vec<std::os::fd::OwnedFd> {
        let unix_listeners = self.unix_listeners.iter().filter_map(|listener| listener.socket().ok());
        self.queues.sockets().into_iter().chain(unix_listeners).collect()
    }

    /// Connections of ours are counted first: one that is accepted meanwhile is then missed in the queue, and not taken
    /// for somebody else's.
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
