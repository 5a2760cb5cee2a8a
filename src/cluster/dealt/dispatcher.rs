//! Accepts connections and deals them out.
//!
//! A listener's task accepts only while a worker has room: otherwise connections wait in the kernel's queue, where they
//! cost us nothing and are safe from our death. A connection once accepted stays open with us until a worker has said
//! that it took it.
//!
//! There are two reasons to accept more, up to [`HELD`]: who waits for the worker of its own ([`Balance::Sticky`]) shall
//! not hold up the others; and what may wait for a limited time only must be known to wait.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::balancer::{ListenerId, Next};
use super::super::persist::store::Accepted;
use super::super::waiting;
use super::listener::Listener;
use super::state::{ClusterState, Connection, Shared};
use crate::os::net::socket::Listening;
use crate::os::{clock, killpoint};
use crate::protocol::Run;
use crate::spec::{Balance, QueueRule};

/// Pause after all workers turned a connection down; it doubles up to [`LAST_BACKOFF`].
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LAST_BACKOFF: Duration = Duration::from_millis(50);
/// Pause when we are out of file descriptors or persistence.
const SHORTAGE: Duration = Duration::from_millis(50);

/// The most connections of a listener that wait with us.
const HELD: usize = 1024;

/// What a listener's task does next, until there is news or that time has come.
enum Step {
    /// There is room.
    Accept(Option<Instant>),
    /// There is none, or all have turned one down.
    Wait(Option<Instant>),
}

/// The task of one listener. Ends with the cluster; aborted with the listener.
pub(crate) async fn accept(shared: Shared, id: ListenerId, socket: Rc<AsyncFd<Listening>>, news: Rc<Notify>) {
    let mut short = false;
    loop {
        let Some(step) = shared.upgrade().map(|state| state.borrow_mut().step(id)) else { return };
        match step {
            Step::Wait(until) => {
                tokio::select! {
                    () = news.notified() => {}
                    () = passed(until) => {}
                }
            }
            Step::Accept(until) => {
                tokio::select! {
                    () = news.notified() => {}
                    () = passed(until) => {}
                    ready = socket.readable() => {
                        let Ok(mut ready) = ready else { return };
                        let accepted = accept_some(&shared, id, &mut ready);
                        if let Err(error) = &accepted {
                            if !short {
                                tracing::warn!(%error, "connections cannot be accepted and wait: trying again");
                            }
                            tokio::time::sleep(SHORTAGE).await;
                        }
                        short = accepted.is_err();
                    }
                }
            }
        }
    }
}

/// Accepts while there are connections and somebody has room for them; then they go.
fn accept_some(
    shared: &Shared,
    id: ListenerId,
    ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, Listening>,
) -> io::Result<()> {
    let accepted = deal(shared, id, ready);
    if let Some(state) = shared.upgrade() {
        state.borrow_mut().flush();
    }
    accepted
}

fn deal(
    shared: &Shared,
    id: ListenerId,
    ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, Listening>,
) -> io::Result<()> {
    while let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) if is_shortage(&error) || is_deaf(&error) => return Err(error),
            // That one connection is gone already.
            Err(_) => continue,
        };
        // Before anything else, so that a God who is killed leaves it under the name it has.
        let Some(state) = shared.upgrade() else { return Ok(()) };
        let mut state = state.borrow_mut();
        killpoint::pass("accepted");
        let socket = Accepted::new(socket, id, &state.store);
        if !state.arrived(id, socket) {
            break;
        }
    }
    Ok(())
}

async fn passed(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The socket listens no more: somebody who has it, too, shut it down.
fn is_deaf(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

impl ClusterState {
    /// A new connection. True if there is room for the next.
    fn arrived(&mut self, id: ListenerId, socket: Accepted) -> bool {
        let connection = Connection::new(socket, id, &self.options);
        match self.listeners.get_mut(&id).and_then(|l| l.dealt()) {
            Some(dealt) if !dealt.waiting.is_empty() && self.options.balance != Balance::Sticky => {
                dealt.waiting.push(connection);
            }
            _ => self.try_place(connection),
        }
        self.has_room(id)
    }

    /// True if another connection of this listener may be accepted.
    fn has_room(&self, id: ListenerId) -> bool {
        let waiting = self.listeners.get(&id).map_or(0, Listener::waiting);
        match (self.options.queue.timeout, self.options.balance) {
            (Some(_), _) => waiting < HELD,
            (None, Balance::Sticky) => waiting < HELD && self.balancer.has_room(id, self.now()),
            (None, Balance::RoundRobin | Balance::Least | Balance::Shared) => {
                waiting == 0 && self.balancer.has_room(id, self.now())
            }
        }
    }

    /// Sends what was dealt out.
    pub(crate) fn flush(&mut self) {
        for run in std::mem::take(&mut self.unflushed) {
            if let Some(member) = self.members.get(&run) {
                member.flush();
            }
        }
    }

    /// Gives back a connection that a worker did not take to whose turn it is, or to the listener's task to try again.
    pub(crate) fn place(&mut self, connection: Connection) {
        connection.socket.waits();
        let id = connection.listener;
        self.try_place(connection);
        self.flush();
        if let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()).filter(|d| !d.waiting.is_empty()) {
            dealt.news.notify_one();
        }
    }

    /// Gives a connection to whose turn it is, or keeps it. Tells nobody: the listener's own task would wake itself.
    fn try_place(&mut self, mut connection: Connection) {
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

    /// Tries to place what waits, then says how to go on.
    fn step(&mut self, id: ListenerId) -> Step {
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait(None) };
        dealt.idle = false;
        if let Some(at) = dealt.retry_at.filter(|at| *at > Instant::now()) {
            return Step::Wait(Some(at));
        }
        dealt.retry_at = None;
        let waiting = std::mem::take(&mut dealt.waiting);
        self.place_waiting(id, waiting);
        self.flush();
        let until = self.shed_late(id);
        let has_room = self.has_room(id);
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait(None) };
        dealt.idle = !dealt.waiting.is_empty() || !has_room;
        match dealt.retry_at {
            Some(at) => Step::Wait(Some(at)),
            None if has_room => Step::Accept(until),
            None => Step::Wait(until),
        }
    }

    /// In the order in which they came, as long as anybody has room.
    fn place_waiting(&mut self, id: ListenerId, waiting: Vec<Connection>) {
        let mut waiting = waiting.into_iter();
        while self.balancer.has_room(id, self.now())
            && let Some(connection) = waiting.next()
        {
            self.try_place(connection);
        }
        if let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) {
            dealt.waiting.extend(waiting);
        }
    }

    /// Ends the connections that have waited too long. Returns when the next one will have.
    fn shed_late(&mut self, id: ListenerId) -> Option<Instant> {
        let QueueRule { timeout, shed: how, .. } = self.options.queue;
        let (timeout, now) = (timeout?, clock::monotonic_ms());
        let left = |connection: &Connection| {
            timeout.saturating_sub(Duration::from_millis(now.saturating_sub(connection.socket.since())))
        };
        let dealt = self.listeners.get_mut(&id)?.dealt()?;
        for connection in dealt.waiting.extract_if(.., |connection| left(connection).is_zero()) {
            waiting::turn_away(&*connection.socket, how);
        }
        dealt.waiting.iter().map(left).min().map(|left| Instant::now() + left)
    }

    /// A worker took a connection, or turned it down.
    pub(crate) fn answered(&mut self, run: Run, seq: u64, accepted: bool) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        if member.ipc.settle(seq) {
            return self.settled(run, seq);
        }
        let Some(mut connection) = member.withdraw(seq) else { return };
        self.balancer.answered(run, now);
        if accepted {
            member.connections += 1;
            if member.counts {
                self.balancer.took(run);
            }
            self.taken(connection.listener);
        } else {
            connection.refused.push(run);
            self.place(connection);
        }
        self.wake_idle();
    }

    /// The worker answered the question with this number: what we thought it had before that and it has not answered
    /// for, it never got.
    pub(crate) fn settled(&mut self, run: Run, question: u64) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        let (never_sent, pending) =
            std::mem::take(&mut member.pending).into_iter().partition(|(seq, _)| *seq < question);
        member.pending = pending;
        let never_sent: Vec<(u64, Connection)> = never_sent;
        never_sent.iter().for_each(|_| self.balancer.answered(run, now));
        self.place_all(never_sent);
        self.disconnect_if_unheard(run);
        self.wake_idle();
    }

    /// Somebody takes connections there: no need for patience.
    pub(crate) fn taken(&mut self, id: ListenerId) {
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return };
        dealt.backoff = FIRST_BACKOFF;
        if dealt.retry_at.take().is_some() {
            dealt.news.notify_one();
        }
    }

    /// Who serves this listener has changed.
    pub(crate) fn news(&mut self, id: ListenerId) {
        if let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) {
            dealt.retry_at = None;
            dealt.news.notify_one();
        }
    }

    /// Who serves has changed everywhere.
    pub(crate) fn wake_all(&mut self) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.news(id);
        }
    }

    /// A worker has room again.
    pub(crate) fn wake_idle(&mut self) {
        for dealt in self.listeners.values_mut().filter_map(|listener| listener.dealt()) {
            if std::mem::take(&mut dealt.idle) {
                dealt.news.notify_one();
            }
        }
    }
}
