//! A connection of our own to one worker, past the rotation: the port is shared, and would answer for somebody else.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::super::Cluster;
use super::super::own_connections::{Call, Road};
use super::super::persist::store::Accepted;
use super::state::{ClusterState, Connection};
use crate::protocol::Run;

/// Why there is no connection to a worker alone.
#[derive(Debug)]
pub enum Unreachable {
    /// It listens nowhere yet, or not through us.
    Nowhere,
    /// Others accept from the same queue.
    Shared,
    /// In another network name space, or at one network device only.
    Elsewhere,
    /// Nobody but the kernel's hash decides whom a connection goes to.
    ByHash,
    /// Not at this moment, which says nothing about the worker.
    NotNow,
    /// The system has none to give.
    Failed(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unreachable::Nowhere => "it takes no connection through the cluster",
            Unreachable::Shared => "it cannot be asked alone: others accept from the same queue",
            Unreachable::Elsewhere => "it cannot be asked: it listens on another network",
            Unreachable::ByHash => "it cannot be asked alone: the kernel deals connections by its hash",
            Unreachable::NotNow => "it cannot be asked right now",
            Unreachable::Failed(error) => return error.fmt(out),
        })
    }
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Unreachable {
        Unreachable::Failed(error)
    }
}

/// Somebody who waits for a connection to a worker that is not ready for one more.
pub(crate) type ProbeConnection = (Run, oneshot::Sender<io::Result<TcpStream>>);

impl Cluster {
    /// A new connection to a worker, as if it had come in at an address the worker listens on, whether the worker is in
    /// rotation or not. One that grants credit and has none left is waited for, as is one whose queue is full.
    ///
    /// # Errors
    /// See [`Unreachable`].
    pub async fn probe(&self, run: Run) -> Result<Call, Unreachable> {
        let handed = self.state.borrow_mut().visit(run);
        match handed {
            Some(stream) => {
                let stream = stream.await.map_err(|_| Unreachable::Nowhere)??;
                Ok(tokio::net::TcpStream::from_std(stream)?.into())
            }
            None => self.queues.visit(run).await.map(|visit| visit.call),
        }
    }

    /// A new connection to an address, `host:port`, as anybody could make it. At one that the app is given its socket
    /// for, it counts as no use of the app.
    ///
    /// # Errors
    /// Of the last of the addresses that the host has.
    pub async fn call(&self, address: &str) -> io::Result<Call> {
        let mut failed = io::ErrorKind::NotFound.into();
        for to in tokio::net::lookup_host(address).await? {
            match self.call_at(reachable(to)).await {
                Ok(call) => return Ok(call),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn call_at(&self, to: SocketAddr) -> io::Result<Call> {
        let is_ours = self.queues.keys().iter().any(|key| key.tcp && key.includes(to));
        match client(to) {
            Ok(client) if is_ours => self.queues.calls().call(client, to, Road::Dealt).await,
            // Another machine's address, or none of the app's.
            Ok(_) | Err(_) => Ok(tokio::net::TcpStream::connect(to).await?.into()),
        }
    }
}

impl ClusterState {
    /// Hands one end of a new connection to a worker, now or as soon as it is ready for it, and returns the other,
    /// non-blocking. `None` if it is dealt none.
    fn visit(&mut self, run: Run) -> Option<oneshot::Receiver<io::Result<TcpStream>>> {
        if !self.takes_connections(run) {
            return None;
        }
        let (visitor, stream) = oneshot::channel();
        // Who waits for one that never grants credit gives up, and asks again.
        self.probe_connections.retain(|(_, visitor)| !visitor.is_closed());
        self.probe_connections.push((run, visitor));
        self.let_in(run);
        Some(stream)
    }

    /// Whoever waits for this worker, as far as it is ready for more.
    pub(crate) fn let_in(&mut self, run: Run) {
        while self.has_room_for_visitor(run)
            && let Some(at) = self.probe_connections.iter().position(|(wanted, _)| *wanted == run)
        {
            let (_, visitor) = self.probe_connections.remove(at);
            if !visitor.is_closed() {
                // Who has left meanwhile closes it.
                let _ = visitor.send(self.hand_to(run));
            }
        }
    }

    /// Node's protocol knows no credit.
    fn has_room_for_visitor(&self, run: Run) -> bool {
        let grants = self.members.get(&run).is_some_and(|member| member.line.own().is_some());
        !grants || self.balancer.has_credit(run)
    }

    fn takes_connections(&self, run: Run) -> bool {
        let holds = self.listeners.values().any(|listener| listener.deals_tcp_to(run));
        holds && self.members.contains_key(&run)
    }

    fn hand_to(&mut self, run: Run) -> io::Result<TcpStream> {
        let (ours, theirs) = pair()?;
        let now = self.now();
        let listener = self.listeners.values().find(|listener| listener.deals_tcp_to(run));
        let (Some(listener), Some(member)) = (listener, self.members.get_mut(&run)) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let accepted = Accepted::new(theirs.into(), listener.id, &self.store);
        self.balancer.resume(run, 1, now);
        member.hand(run, listener, Connection::new(accepted, listener.id, &self.options));
        member.flush();
        Ok(ours)
    }
}

/// A socket at this address, with a port that nobody else has there; and both.
///
/// # Errors
/// `AddrNotAvailable` if it is not this machine's.
pub(crate) fn client(at: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let mut own = at;
    own.set_port(0);
    socket.bind(own)?;
    let from = socket.local_addr()?;
    Ok((socket, from))
}

/// Where a connection to this address goes: one to all addresses goes to this machine.
fn reachable(mut to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    to
}

/// A TCP connection with ourselves. Node wants a TCP handle, which the end of a socket pair is not.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let address = ours.local_addr()?;
    loop {
        // Somebody else on this machine may have been faster.
        let (theirs, peer) = listener.accept()?;
        if peer == address {
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            return Ok((ours, theirs));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn the_two_ends_belong_together() {
        let (ours, mut theirs) = pair().unwrap();
        ours.set_nonblocking(false).unwrap();
        theirs.write_all(b"hello").unwrap();
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
