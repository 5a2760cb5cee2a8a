//! Accepts connections and deals them out.
//!
//! A listener's task accepts only while a worker has room: otherwise connections wait in the kernel's queue, where they
//! cost us nothing and are safe from our death. A connection once accepted stays open with us until a worker has said
//! that it took it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::Accepted;
use super::rota::{ListenerId, Next};
use super::state::{Connection, Shared, State};
use crate::os::killpoint;
use crate::os::socket::Listening;
use crate::protocol::Run;

/// Pause after all workers turned a connection down; it doubles up to [`LAST_BACKOFF`].
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LAST_BACKOFF: Duration = Duration::from_millis(50);
/// Pause when we are out of file descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(50);

/// What a listener's task does next.
enum Step {
    /// Somebody has room.
    Accept,
    /// Nobody has: wait for news.
    Wait,
    /// All have turned one down: wait for news, but not for ever.
    Retry(Instant),
}

/// The task of one listener. Ends with the cluster; aborted with the listener.
pub(crate) async fn accept(shared: Shared, id: ListenerId, socket: Rc<AsyncFd<Listening>>, news: Rc<Notify>) {
    let mut short = false;
    loop {
        let Some(step) = shared.upgrade().map(|state| state.borrow_mut().step(id)) else { return };
        match step {
            Step::Wait => news.notified().await,
            Step::Retry(at) => {
                // Both outcomes lead to another look.
                let _ = tokio::time::timeout_at(at, news.notified()).await;
            }
            Step::Accept => {
                tokio::select! {
                    () = news.notified() => {}
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
            Err(error) if is_shortage(&error) => return Err(error),
            // That one connection is gone already.
            Err(_) => continue,
        };
        // Before anything else, so that a God who is killed leaves it under the name it has.
        let Some(state) = shared.upgrade() else { return Ok(()) };
        let mut state = state.borrow_mut();
        killpoint::pass("accepted");
        let socket = Accepted::new(socket, id, &state.book);
        if !state.arrived(id, socket) {
            break;
        }
    }
    Ok(())
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl State {
    /// A new connection. True if somebody has room for the next.
    fn arrived(&mut self, id: ListenerId, socket: Accepted) -> bool {
        self.try_place(Connection { socket: Rc::new(socket), listener: id, refused: Vec::new() });
        self.nothing_waits(id) && self.rota.has_room(id, self.now())
    }

    /// Sends what was dealt out.
    pub(crate) fn flush(&mut self) {
        for run in std::mem::take(&mut self.unflushed) {
            if let Some(member) = self.members.get(&run) {
                member.flush();
            }
        }
    }

    fn nothing_waits(&mut self, id: ListenerId) -> bool {
        self.listeners.get_mut(&id).and_then(|l| l.dealt()).is_none_or(|dealt| dealt.waiting.is_empty())
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
        match self.rota.next(id, &connection.refused, self.start.elapsed()) {
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
        let now = self.now();
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait };
        dealt.idle = false;
        if let Some(at) = dealt.retry_at.filter(|at| *at > Instant::now()) {
            return Step::Retry(at);
        }
        dealt.retry_at = None;
        for connection in std::mem::take(&mut dealt.waiting) {
            self.try_place(connection);
        }
        self.flush();
        let has_room = self.rota.has_room(id, now);
        let Some(dealt) = self.listeners.get_mut(&id).and_then(|l| l.dealt()) else { return Step::Wait };
        match dealt.retry_at {
            Some(at) => Step::Retry(at),
            None if dealt.waiting.is_empty() && has_room => Step::Accept,
            None => {
                dealt.idle = true;
                Step::Wait
            }
        }
    }

    /// A worker took a connection, or turned it down.
    pub(crate) fn answered(&mut self, run: Run, seq: u64, accepted: bool) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        if member.ipc.settle(seq) {
            return self.settled(run, seq);
        }
        let Some(mut connection) = member.take_back(seq) else { return };
        self.rota.answered(run, now);
        if accepted {
            member.connections += 1;
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
        never_sent.iter().for_each(|_| self.rota.answered(run, now));
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
