//! Accepts connections and deals them out.
//!
//! ```text
//!  listener's task: step() ─► accept ─► connection_accepted() ─► balancer ─► Member::hand ─► flush()
//!                     ▲                        ▲
//!                     │ wake                   └── dispatch(): refused, withdrawn from a dead or excluded worker
//!                  answered(), synced()
//! ```
//!
//! A listener's task accepts only while a worker has room. Otherwise connections wait in the kernel's queue, where they
//! cost nothing and survive the daemon's death. An accepted connection stays open in the daemon until a worker has
//! confirmed that it took it.
//!
//! There are two reasons to accept more, up to [`MAX_WAITING`]: a client that waits for its own worker
//! ([`Balance::Sticky`]) must not hold up the others; and a connection that may wait for a limited time only must be
//! known to wait.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Connection;
use super::listener::Listener;
use super::state::{ClusterState, WeakClusterState};
use crate::cluster::balancer::{ListenerId, Next};
use crate::cluster::persist::AcceptedSocket;
use crate::cluster::waiting;
use crate::os::net::socket::Listening;
use crate::os::{clock, killpoint};
use crate::protocol::Run;
use crate::spec::{Balance, QueueRule};

/// Pause after all workers refused a connection. It doubles up to [`LAST_BACKOFF`].
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LAST_BACKOFF: Duration = Duration::from_millis(50);
/// Pause when the system is out of file descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(50);
/// The most connections of one listener that wait in the daemon.
const MAX_WAITING: usize = 1024;

/// What a listener's task does next, until it is woken or the time has come.
enum Step {
    /// There is room for another connection.
    Accept(Option<Instant>),
    /// There is no room, or all workers refused a connection.
    Wait(Option<Instant>),
}

/// The task of one listener. Ends with the cluster; aborted with the listener.
pub(crate) async fn accept(
    shared: WeakClusterState,
    id: ListenerId,
    socket: Rc<AsyncFd<Listening>>,
    changed: Rc<Notify>,
) {
    let mut was_short = false;
    loop {
        let Some(step) = shared.upgrade().map(|state| state.borrow_mut().step(id)) else { return };
        match step {
            Step::Wait(until) => {
                tokio::select! {
                    () = changed.notified() => {}
                    () = sleep_until(until) => {}
                }
            }
            Step::Accept(until) => {
                tokio::select! {
                    () = changed.notified() => {}
                    () = sleep_until(until) => {}
                    ready = socket.readable() => {
                        let Ok(mut ready) = ready else { return };
                        let accepted = accept_batch(&shared, id, &mut ready);
                        if let Some(state) = shared.upgrade() {
                            state.borrow_mut().flush();
                        }
                        if let Err(error) = &accepted {
                            if !was_short {
                                tracing::warn!(%error, "connections cannot be accepted and wait: trying again");
                            }
                            tokio::time::sleep(SHORTAGE).await;
                        }
                        was_short = accepted.is_err();
                    }
                }
            }
        }
    }
}

/// Accepts while there are connections and workers have room for them. They are sent by the next flush.
fn accept_batch(
    shared: &WeakClusterState,
    id: ListenerId,
    ready: &mut AsyncFdReadyGuard<'_, Listening>,
) -> io::Result<()> {
    while let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) if is_shortage(&error) || is_shut_down(&error) => return Err(error),
            // That one connection is gone already.
            Err(_) => continue,
        };
        // The slot is written before anything else, so that a daemon that is killed leaves the connection to the next.
        let Some(state) = shared.upgrade() else { return Ok(()) };
        let mut state = state.borrow_mut();
        killpoint::pass("accepted");
        let socket = AcceptedSocket::new(socket, id, &state.store);
        if !state.connection_accepted(id, socket) {
            break;
        }
    }
    Ok(())
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// True if the socket listens no more, because another process that has a copy shut it down.
fn is_shut_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

impl ClusterState {
    /// Takes in a new connection. True if there is room for the next.
    fn connection_accepted(&mut self, id: ListenerId, socket: AcceptedSocket) -> bool {
        let connection = Connection::new(socket, id, &self.options);
        match self.listeners.get_mut(&id).and_then(|listener| listener.dealt()) {
            Some(dealt) if !dealt.waiting.is_empty() && self.options.balance != Balance::Sticky => {
                dealt.waiting.push(connection);
            }
            _ => self.hand_or_queue(connection),
        }
        self.has_room(id)
    }

    /// True if another connection of this listener may be accepted.
    fn has_room(&self, id: ListenerId) -> bool {
        let waiting = self.listeners.get(&id).map_or(0, Listener::waiting);
        match (self.options.queue.timeout, self.options.balance) {
            (Some(_), _) => waiting < MAX_WAITING,
            (None, Balance::Sticky) => waiting < MAX_WAITING && self.balancer.has_room(id, self.now()),
            (None, Balance::RoundRobin | Balance::Least | Balance::Shared) => {
                waiting == 0 && self.balancer.has_room(id, self.now())
            }
        }
    }

    /// Sends the connections that were handed over.
    pub(crate) fn flush(&mut self) {
        for run in std::mem::take(&mut self.unflushed) {
            if let Some(member) = self.members.get(&run) {
                member.flush();
            }
        }
    }

    /// Gives a connection that a worker did not take to the next worker, or to the listener's task to try again.
    pub(crate) fn dispatch(&mut self, connection: Connection) {
        connection.socket.mark_waiting();
        let id = connection.listener;
        self.hand_or_queue(connection);
        self.flush();
        let dealt = self.listeners.get_mut(&id).and_then(|listener| listener.dealt());
        if let Some(dealt) = dealt.filter(|dealt| !dealt.waiting.is_empty()) {
            dealt.changed.notify_one();
        }
    }

    pub(crate) fn dispatch_all(&mut self, connections: Vec<(u64, Connection)>) {
        for (_, connection) in connections {
            self.dispatch(connection);
        }
    }

    /// Hands a connection to the worker whose turn it is, or queues it. Wakes no task: the listener's own task would
    /// wake itself.
    fn hand_or_queue(&mut self, mut connection: Connection) {
        let id = connection.listener;
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        match self.balancer.next(id, connection.client, &connection.refused, self.start.elapsed()) {
            Next::To(run) => {
                if let Some(member) = self.members.get_mut(&run) {
                    member.hand(run, listener, connection);
                    self.unflushed.push(run);
                }
            }
            next @ (Next::Wait | Next::AllRefused) => {
                let Some(dealt) = listener.dealt() else { return };
                if next == Next::AllRefused {
                    connection.refused.clear();
                    dealt.retry_at = Some(Instant::now() + dealt.backoff);
                    dealt.backoff = (dealt.backoff * 2).min(LAST_BACKOFF);
                }
                dealt.waiting.push(connection);
            }
        }
    }

    /// Tries to hand over what waits, then decides what the listener's task does next.
    fn step(&mut self, id: ListenerId) -> Step {
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait(None) };
        dealt.idle = false;
        if let Some(at) = dealt.retry_at.filter(|at| *at > Instant::now()) {
            return Step::Wait(Some(at));
        }
        dealt.retry_at = None;
        let waiting = std::mem::take(&mut dealt.waiting);
        self.hand_waiting(id, waiting);
        self.flush();
        let until = self.shed_expired(id);
        let has_room = self.has_room(id);
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait(None) };
        dealt.idle = !dealt.waiting.is_empty() || !has_room;
        match dealt.retry_at {
            Some(at) => Step::Wait(Some(at)),
            None if has_room => Step::Accept(until),
            None => Step::Wait(until),
        }
    }

    /// Hands over in the order of arrival, as long as any worker has room.
    fn hand_waiting(&mut self, id: ListenerId, waiting: Vec<Connection>) {
        let mut waiting = waiting.into_iter();
        while self.balancer.has_room(id, self.now())
            && let Some(connection) = waiting.next()
        {
            self.hand_or_queue(connection);
        }
        if let Some(dealt) = self.listeners.get_mut(&id).and_then(|listener| listener.dealt()) {
            dealt.waiting.extend(waiting);
        }
    }

    /// Rejects the connections that have waited too long. Returns when the next one will have.
    fn shed_expired(&mut self, id: ListenerId) -> Option<Instant> {
        let QueueRule { timeout, shed: how, .. } = self.options.queue;
        let (timeout, now) = (timeout?, clock::monotonic_ms());
        let left = |connection: &Connection| {
            timeout.saturating_sub(Duration::from_millis(now.saturating_sub(connection.socket.since())))
        };
        let dealt = self.listeners.get_mut(&id)?.dealt()?;
        for connection in dealt.waiting.extract_if(.., |connection| left(connection).is_zero()) {
            waiting::reject(&*connection.socket, how);
        }
        dealt.waiting.iter().map(left).min().map(|left| Instant::now() + left)
    }

    /// A worker took a connection, or refused it.
    pub(crate) fn answered(&mut self, run: Run, seq: u64, accepted: bool) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        if member.ipc.complete_sync(seq) {
            return self.synced(run, seq);
        }
        let Some(mut connection) = member.withdraw(seq) else { return };
        self.balancer.answered(run, now);
        if accepted {
            member.connections += 1;
            if member.reports_open {
                self.balancer.add_open(run);
            }
            self.reset_backoff(connection.listener);
        } else {
            connection.refused.push(run);
            self.dispatch(connection);
        }
        self.wake_idle();
    }

    /// The worker answered the sync message with this number: connections with a lower number that it has not answered
    /// for were never sent to it.
    pub(crate) fn synced(&mut self, run: Run, sync: u64) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        let (never_sent, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut member.pending).into_iter().partition(|(seq, _)| *seq < sync);
        member.pending = pending;
        never_sent.iter().for_each(|_| self.balancer.answered(run, now));
        self.dispatch_all(never_sent);
        self.repeat_disconnect(run);
        self.wake_idle();
    }

    /// A worker that gets a disconnect closes its servers before it sends anything else. One that answered the sync
    /// message and still listens did not get it: the previous daemon saved that it was about to send it, and was
    /// killed.
    fn repeat_disconnect(&mut self, run: Run) {
        let requested = self.members.get(&run).is_some_and(|member| member.asked_to_disconnect);
        if requested
            && self.listeners.values().any(|listener| listener.is_held_by(run))
            && let Some(member) = self.members.get_mut(&run)
        {
            member.send_disconnect();
        }
    }

    /// A worker took a connection of this listener: nothing has to pause.
    pub(crate) fn reset_backoff(&mut self, id: ListenerId) {
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|listener| listener.dealt()) else { return };
        dealt.backoff = FIRST_BACKOFF;
        if dealt.retry_at.take().is_some() {
            dealt.changed.notify_one();
        }
    }
}
