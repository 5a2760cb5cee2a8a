//! Connections that the daemon itself makes to an app's workers, for health checks. They are no use of the app, so they
//! neither keep an idle app running nor start a stopped one.
//!
//! Each is registered by its local address before it is made, so that no observer can see it without knowing it. A
//! connection that the daemon has closed stays registered while the worker may still have its end open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::os::clock;
use crate::os::net::diag;

/// How long a connection stays registered after the daemon has closed it. A worker that has not closed its end by then
/// holds on to it.
const LINGER: Duration = Duration::from_secs(60);

/// Why there is no connection to one particular worker.
#[derive(Debug)]
pub enum Unreachable {
    /// The worker listens nowhere yet, or not through the cluster.
    Nowhere,
    /// Other workers accept from the same queue.
    Shared,
    /// The worker listens in another network name space, or at one network device only.
    Elsewhere,
    /// Only the kernel's hash decides which worker gets a connection.
    ByHash,
    /// Not at this moment, for a reason that does not depend on the worker.
    NotNow,
    /// The system refused the connection.
    Failed(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unreachable::Nowhere => "it takes no connection through the cluster",
            Unreachable::Shared => "it cannot be reached alone: other workers accept from the same queue",
            Unreachable::Elsewhere => "it cannot be reached: it listens on another network",
            Unreachable::ByHash => "it cannot be reached alone: the kernel distributes connections by its hash",
            Unreachable::NotNow => "it cannot be reached at this moment",
            Unreachable::Failed(error) => return error.fmt(out),
        })
    }
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Unreachable {
        Unreachable::Failed(error)
    }
}

/// The daemon's own connections to one app. Clones share one registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnConnections {
    registry: Rc<RefCell<Registry>>,
}

#[derive(Debug, Default)]
struct Registry {
    /// By local address: when the daemon closed the connection, in ms of the monotonic clock; `None` while it is open.
    closed_at: HashMap<(IpAddr, u16), Option<u64>>,
    /// Connections that went to the rotation since [`OwnConnections::take_dealt`] was last called.
    dealt: u64,
}

/// Keeps one connection registered as open until it is dropped.
#[derive(Debug)]
struct Entry {
    owner: OwnConnections,
    from: (IpAddr, u16),
}

/// A connection that the daemon made.
#[derive(Debug)]
pub struct OwnConnection {
    /// The connection, at the client's end.
    pub stream: TcpStream,
    /// Dropped after the stream is closed.
    _entry: Option<Entry>,
}

impl From<TcpStream> for OwnConnection {
    /// A connection that cannot be mistaken for a client's, so it needs no registration.
    fn from(stream: TcpStream) -> OwnConnection {
        OwnConnection { stream, _entry: None }
    }
}

/// Which worker gets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One particular worker, past the rotation.
    Worker,
    /// The worker whose turn it is.
    Rotation,
}

impl OwnConnections {
    /// Makes a connection from this local address. It is registered before the system call, with no await in between.
    ///
    /// # Errors
    /// Those of connect(2).
    pub(crate) async fn connect(
        &self,
        (socket, from): (TcpSocket, SocketAddr),
        to: SocketAddr,
        target: Target,
    ) -> io::Result<OwnConnection> {
        let entry = self.register(from, target);
        Ok(OwnConnection { stream: socket.connect(to).await?, _entry: Some(entry) })
    }

    fn register(&self, from: SocketAddr, target: Target) -> Entry {
        let from = canonical(from);
        let mut registry = self.registry.borrow_mut();
        registry.remove_expired(clock::monotonic_ms());
        registry.closed_at.insert(from, None);
        registry.dealt += u64::from(target == Target::Rotation);
        Entry { owner: self.clone(), from }
    }

    /// How many connections went to the rotation since the last call.
    pub(crate) fn take_dealt(&self) -> u64 {
        std::mem::take(&mut self.registry.borrow_mut().dealt)
    }

    /// Separates the daemon's own connections from those of clients. `all` must be all connections of the app: a closed
    /// connection that is not among them is removed from the registry.
    pub(crate) fn classify(&self, all: Vec<diag::Connection>) -> Classified {
        let mut registry = self.registry.borrow_mut();
        registry.remove_expired(clock::monotonic_ms());
        let (own, clients): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|connection| registry.closed_at.contains_key(&canonical(connection.peer)));
        registry
            .closed_at
            .retain(|from, closed| closed.is_none() || own.iter().any(|one| canonical(one.peer) == *from));
        let waiting = own.iter().filter(|connection| connection.inode == 0 && connection.is_open()).count();
        Classified { has_clients: !clients.is_empty(), own_waiting: u32::try_from(waiting).unwrap_or(u32::MAX) }
    }
}

/// What an app's connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classified {
    /// At least one connection is a client's.
    pub(crate) has_clients: bool,
    /// How many of the daemon's own connections wait to be accepted.
    pub(crate) own_waiting: u32,
}

impl Registry {
    fn remove_expired(&mut self, now: u64) {
        let is_expired = |closed: u64| Duration::from_millis(now.saturating_sub(closed)) >= LINGER;
        self.closed_at.retain(|_, closed| !closed.is_some_and(is_expired));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.owner.registry.borrow_mut().closed_at.insert(self.from, Some(clock::monotonic_ms()));
    }
}

/// A socket bound to the address of `at` with a port that no other socket has there, and its local address.
///
/// # Errors
/// `AddrNotAvailable` if the address is not this machine's.
pub(crate) fn bind_client(at: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let mut local = at;
    local.set_port(0);
    socket.bind(local)?;
    let from = socket.local_addr()?;
    Ok((socket, from))
}

/// One form for both ends of a connection, and for sockets of both versions of IP.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The kernel's tables may lag behind a system call for a moment.
    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn run(scenario: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scenario);
    }

    #[test]
    fn own_connections_are_not_counted_as_clients_while_either_end_is_open() {
        run(async {
            for any in ["127.0.0.1:0", "[::1]:0"] {
                let server = TcpListener::bind(any).unwrap();
                let at = server.local_addr().unwrap();
                let own = OwnConnections::default();
                let seen = || own.classify(diag::connections(at.port()).unwrap());
                assert_eq!(seen(), Classified { has_clients: false, own_waiting: 0 });
                let connection = own.connect(bind_client(at).unwrap(), at, Target::Rotation).await.unwrap();
                until(|| seen() == Classified { has_clients: false, own_waiting: 1 }).await;
                assert_eq!((own.take_dealt(), own.take_dealt()), (1, 0));
                let (accepted, _) = server.accept().unwrap();
                assert_eq!(seen(), Classified { has_clients: false, own_waiting: 0 });
                drop(connection);
                assert_eq!(seen(), Classified { has_clients: false, own_waiting: 0 }, "the server's end is open still");
                let client = std::net::TcpStream::connect(at).unwrap();
                until(|| seen().has_clients).await;
                drop((client, accepted));
                server.accept().unwrap();
                // What has ended is removed.
                until(|| !seen().has_clients && own.registry.borrow().closed_at.is_empty()).await;
            }
        });
    }

    #[test]
    fn a_failed_connection_is_removed_by_the_next_classification() {
        run(async {
            let at = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
            let own = OwnConnections::default();
            own.connect(bind_client(at).unwrap(), at, Target::Worker).await.unwrap_err();
            assert_eq!(own.registry.borrow().closed_at.len(), 1);
            assert_eq!(own.classify(Vec::new()), Classified { has_clients: false, own_waiting: 0 });
            assert!(own.registry.borrow().closed_at.is_empty());
        });
    }
}
