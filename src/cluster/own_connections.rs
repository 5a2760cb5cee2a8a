//! Connections that we make to an app's workers by ourselves, to ask how they are: they are no use of the app, so they
//! neither keep it awake nor wake it.
//!
//! Each is known by its address at our end from before it is made, so that nobody can see it and not know it. One that we
//! have closed stays known while the worker may still have its end open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::os::clock;
use crate::os::net::diag;

/// How long a connection stays known that we have closed. A worker that has not closed it by then holds on to it.
const LINGER: Duration = Duration::from_secs(60);

/// Those of one app. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    known: Rc<RefCell<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By our address: when we closed it, in ms of the monotonic clock.
    calls: HashMap<(IpAddr, u16), Option<u64>>,
    /// How many the kernel was to deal out since somebody asked.
    dealt: u64,
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Entry {
    calls: Calls,
    from: (IpAddr, u16),
}

/// A connection of our own.
#[derive(Debug)]
pub struct Call {
    /// The connection.
    pub stream: TcpStream,
    /// Dropped after it.
    _entry: Option<Entry>,
}

impl From<TcpStream> for Call {
    /// One that nobody mistakes for a client's.
    fn from(stream: TcpStream) -> Call {
        Call { stream, _entry: None }
    }
}

/// Whom a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// To one worker, past the rotation.
    Routed,
    /// To whose turn it is.
    Dealt,
}

impl Calls {
    /// Makes a connection from this address of ours. It is known from the first moment on: the system call is made with
    /// nothing in between that others could do.
    ///
    /// # Errors
    /// What `connect` says.
    pub(crate) async fn call(
        &self,
        (socket, from): (tokio::net::TcpSocket, SocketAddr),
        to: SocketAddr,
        road: Road,
    ) -> std::io::Result<Call> {
        let entry = self.begin(from, road);
        Ok(Call { stream: socket.connect(to).await?, _entry: Some(entry) })
    }

    fn begin(&self, from: SocketAddr, road: Road) -> Entry {
        let from = name(from);
        let mut known = self.known.borrow_mut();
        known.forget_those_before(clock::monotonic_ms());
        known.calls.insert(from, None);
        known.dealt += u64::from(road == Road::Dealt);
        Entry { calls: self.clone(), from }
    }

    /// How many were dealt out since the last question.
    pub(crate) fn take_dealt(&self) -> u64 {
        std::mem::take(&mut self.known.borrow_mut().dealt)
    }

    /// What of these connections of the app's is not ours. To be told all there are: what we have closed and is not among
    /// them is known no more.
    pub(crate) fn sift(&self, all: Vec<diag::Connection>) -> Sifted {
        let mut known = self.known.borrow_mut();
        known.forget_those_before(clock::monotonic_ms());
        let (ours, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|connection| known.calls.contains_key(&name(connection.peer)));
        known.calls.retain(|from, closed| closed.is_none() || ours.iter().any(|one| name(one.peer) == *from));
        let waiting = ours.iter().filter(|connection| connection.inode == 0 && connection.is_open()).count();
        Sifted { others: !others.is_empty(), waiting: u32::try_from(waiting).unwrap_or(u32::MAX) }
    }
}

/// What an app's connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sifted {
    /// Some are not ours.
    pub(crate) others: bool,
    /// So many of ours wait to be accepted.
    pub(crate) waiting: u32,
}

impl Known {
    fn forget_those_before(&mut self, now: u64) {
        let is_over = |closed: u64| Duration::from_millis(now.saturating_sub(closed)) >= LINGER;
        self.calls.retain(|_, closed| !closed.is_some_and(is_over));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.known.borrow_mut().calls.insert(self.from, Some(clock::monotonic_ms()));
    }
}

/// The same, seen from both ends and by sockets of both versions of IP.
fn name(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The kernel may be a moment behind.
    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn play(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(story);
    }

    #[test]
    fn ours_are_told_from_others_as_long_as_they_are_there() {
        play(async {
            for any in ["127.0.0.1:0", "[::1]:0"] {
                let server = TcpListener::bind(any).unwrap();
                let at = server.local_addr().unwrap();
                let calls = Calls::default();
                let seen = || calls.sift(diag::connections(at.port()).unwrap());
                assert_eq!(seen(), Sifted { others: false, waiting: 0 });
                let call = calls.call(super::super::dealt::probe::client(at).unwrap(), at, Road::Dealt).await.unwrap();
                until(|| seen() == Sifted { others: false, waiting: 1 }).await;
                assert_eq!((calls.take_dealt(), calls.take_dealt()), (1, 0));
                let (theirs, _) = server.accept().unwrap();
                assert_eq!(seen(), Sifted { others: false, waiting: 0 });
                drop(call);
                assert_eq!(seen(), Sifted { others: false, waiting: 0 }, "their end is open still");
                let client = std::net::TcpStream::connect(at).unwrap();
                until(|| seen().others).await;
                drop((client, theirs));
                server.accept().unwrap();
                // What is over is forgotten.
                until(|| !seen().others && calls.known.borrow().calls.is_empty()).await;
            }
        });
    }

    #[test]
    fn a_call_that_failed_is_known_no_more_before_long() {
        play(async {
            let at = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
            let calls = Calls::default();
            calls.call(super::super::dealt::probe::client(at).unwrap(), at, Road::Routed).await.unwrap_err();
            assert_eq!(calls.known.borrow().calls.len(), 1);
            assert_eq!(calls.sift(Vec::new()), Sifted { others: false, waiting: 0 });
            assert!(calls.known.borrow().calls.is_empty());
        });
    }
}
