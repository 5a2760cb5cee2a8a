//! A connection of the daemon's own to one worker, past the rotation: the port is shared, so a connection to it could
//! be answered by another worker.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use tokio::sync::oneshot;

use super::connection::Connection;
use super::state::{ClusterState, PendingProbe};
use crate::cluster::persist::AcceptedSocket;
use crate::protocol::Run;

impl ClusterState {
    /// Hands one end of a new connection to a worker, now or as soon as it is ready for it, and returns the other end,
    /// non-blocking. `None` if the worker is dealt no TCP connections.
    pub(crate) fn probe(&mut self, run: Run) -> Option<oneshot::Receiver<io::Result<TcpStream>>> {
        if !self.is_dealt_tcp(run) {
            return None;
        }
        let (reply, stream) = oneshot::channel();
        // A client that waits for a worker without credit gives up after a while, and tries again.
        self.probes.retain(|probe| !probe.reply.is_closed());
        self.probes.push(PendingProbe { run, reply });
        self.serve_probes(run);
        Some(stream)
    }

    /// Makes the connections that wait for this worker, as far as it is ready for more.
    pub(crate) fn serve_probes(&mut self, run: Run) {
        while self.is_ready_for_probe(run)
            && let Some(at) = self.probes.iter().position(|probe| probe.run == run)
        {
            let probe = self.probes.remove(at);
            if !probe.reply.is_closed() {
                // If the client has given up meanwhile, the connection is closed.
                let _ = probe.reply.send(self.hand_probe(run));
            }
        }
    }

    /// Node's protocol has no credit, so a Node worker is always ready.
    fn is_ready_for_probe(&self, run: Run) -> bool {
        let grants_credit = self.members.get(&run).is_some_and(|member| member.transport.pmr().is_some());
        !grants_credit || self.balancer.has_credit(run)
    }

    fn is_dealt_tcp(&self, run: Run) -> bool {
        let holds = self.listeners.values().any(|listener| listener.deals_tcp_to(run));
        holds && self.members.contains_key(&run)
    }

    fn hand_probe(&mut self, run: Run) -> io::Result<TcpStream> {
        let (client, server) = tcp_pair()?;
        let now = self.now();
        let listener = self.listeners.values().find(|listener| listener.deals_tcp_to(run));
        let (Some(listener), Some(member)) = (listener, self.members.get_mut(&run)) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let accepted = AcceptedSocket::new(server.into(), listener.id, &self.store);
        self.balancer.add_unanswered(run, 1, now);
        member.hand(run, listener, Connection::new(accepted, listener.id, &self.options));
        member.flush();
        Ok(client)
    }
}

/// The two ends of a TCP connection, the client's first. Node wants a TCP handle, which the end of a socket pair is
/// not.
fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let address = client.local_addr()?;
    loop {
        // Another process on this machine may have connected before.
        let (server, peer) = listener.accept()?;
        if peer == address {
            client.set_nonblocking(true)?;
            server.set_nonblocking(true)?;
            return Ok((client, server));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn the_two_ends_of_a_pair_are_connected() {
        let (client, mut server) = tcp_pair().unwrap();
        client.set_nonblocking(false).unwrap();
        server.write_all(b"hello").unwrap();
        drop(server);
        let mut text = String::new();
        (&client).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
