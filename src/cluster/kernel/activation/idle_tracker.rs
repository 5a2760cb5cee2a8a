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

use super::{Activation, State};
use crate::cluster::Notice;
use crate::os::net::reuseport::Key;
use crate::os::net::{diag, socket};

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS_PER_TIMEOUT: u32 = 8;
/// Where a queue is never seen empty for so long, one more is called.
const TOO_LONG: Duration = Duration::from_secs(1);
/// How long somebody who was called has to come before he is called again.
const CALL_AGAIN: Duration = Duration::from_secs(1);

impl Activation {
    /// Looks after the app as long as it has an idle timeout.
    pub(crate) fn attend(&self, idle_timeout: Option<Duration>) {
        let mut state = self.state.borrow_mut();
        if state.idle_timeout == idle_timeout && state.attendant.is_some() == idle_timeout.is_some() {
            return;
        }
        state.idle_timeout = idle_timeout;
        state.attendant = None;
        if let Some(idle) = idle_timeout {
            let task = attend(Rc::downgrade(&self.state), Rc::clone(&state.news), idle);
            state.attendant = Some(AbortOnDropHandle::new(tokio::task::spawn_local(task)));
        }
    }
}

/// Ends with the state, which aborts it.
async fn attend(state: Weak<RefCell<State>>, news: Rc<Notify>, idle: Duration) {
    let mut watch = Watch { idle, quiet_since: Instant::now(), dealt: None, waiting_since: None };
    loop {
        let told = news.notified();
        let Some(is_attended) = state.upgrade().map(|state| state.borrow().is_attended()) else { return };
        if is_attended {
            // Who comes or goes makes no difference to how long it has been quiet.
            let _ = timeout(LOOK.min(idle / LOOKS_PER_TIMEOUT), told).await;
            let Some(state) = state.upgrade() else { return };
            watch.look(&state.borrow());
        } else {
            tokio::select! {
                () = somebody_comes(&state) => {
                    if let Some(state) = state.upgrade() {
                        state.borrow().want();
                    }
                    let _ = timeout(CALL_AGAIN, told).await;
                    watch.quiet_since = Instant::now();
                }
                () = news.notified() => watch.quiet_since = Instant::now(),
            }
        }
    }
}

/// What was seen so far.
struct Watch {
    idle: Duration,
    quiet_since: Instant,
    /// Connections dealt out by the last look.
    dealt: Option<u64>,
    /// Since when some have waited by every look.
    waiting_since: Option<Instant>,
}

impl Watch {
    fn look(&mut self, state: &State) {
        let seen = state.look();
        // What we had dealt out ourselves is nobody's use of it.
        let ours = state.queues.calls().take_dealt();
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
        let since = self.waiting_since.filter(|_| waiting && !state.somebody_starts());
        self.waiting_since = match since {
            Some(since) if since.elapsed() >= TOO_LONG => {
                state.want();
                None
            }
            since => since.or_else(|| waiting.then(Instant::now)),
        };
        if self.quiet_since.elapsed() >= self.idle {
            self.quiet_since = Instant::now();
            state.tell(Notice::Idle { app: state.store.app });
        }
    }
}

/// What there is of others than ourselves.
struct Seen {
    /// Somebody is connected, or was just now.
    connected: bool,
    /// How many wait to be accepted.
    waiting: u32,
    /// How many connections were dealt out, ours included; `None` where nobody counts them.
    dealt: Option<u64>,
}

/// Ends when a connection waits at any of the app's sockets.
async fn somebody_comes(state: &Weak<RefCell<State>>) {
    loop {
        let Some(sockets) = state.upgrade().map(|state| state.borrow().unattended()) else { return };
        let watched: Vec<_> = sockets.into_iter().filter_map(|socket| socket::watch(socket).ok()).collect();
        if watched.is_empty() {
            sleep(LOOK).await;
            continue;
        }
        let readable = watched.iter().map(|socket| Box::pin(socket.readable()));
        let _ = select_all(readable).await;
        if state.upgrade().is_none_or(|state| state.borrow().look().waiting > 0) {
            return;
        }
        // It left at once, or somebody on his way out took it.
        sleep(LOOK / LOOKS_PER_TIMEOUT).await;
    }
}

impl State {
    fn want(&self) {
        self.tell(Notice::Demand { app: self.store.app });
    }

    /// True if somebody serves, or is about to.
    fn is_attended(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded)
    }

    /// True if somebody is on his way to serve.
    fn somebody_starts(&self) -> bool {
        self.workers.values().any(|worker| !worker.excluded && !worker.serves)
    }

    /// The sockets at which connections wait while nobody is there.
    fn unattended(&self) -> Vec<std::os::fd::OwnedFd> {
        let doors = self.doors.iter().filter_map(|door| door.socket().ok());
        self.queues.sockets().into_iter().chain(doors).collect()
    }

    /// Connections of ours are counted first: one that is accepted meanwhile is then missed in the queue, and not taken
    /// for somebody else's.
    fn look(&self) -> Seen {
        let at = |key: Key| {
            let mut here = diag::connections(key.address.port()).unwrap_or_default();
            here.retain(|connection| key.includes(connection.local));
            here
        };
        let tcp = self.queues.keys().into_iter().filter(|key| key.tcp);
        let sifted = self.queues.calls().sift(tcp.flat_map(at).collect());
        let waiting = self.queues.waiting().saturating_sub(sifted.waiting);
        Seen {
            connected: sifted.others || self.doors.iter().any(|door| diag::connected_unix(door.path()) > 0),
            waiting: waiting + self.doors.iter().map(super::SharedUnixListener::waiting).sum::<u32>(),
            dealt: self.queues.dealt(),
        }
    }
}
