//! A connection of our own to one worker, past the rotation: the port is shared, and would answer for somebody else.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::Cluster;
use super::memory::Accepted;
use super::state::{Connection, State};
use crate::protocol::Run;

impl Cluster {
    /// Hands one end of a new connection to a worker, as if it had come in at an address the worker listens on, and
    /// returns the other, non-blocking. `None` if the worker listens on no such address yet, or not through us.
    ///
    /// # Errors
    /// The system's, when it has no connection to give.
    pub fn probe(&self, run: Run) -> io::Result<Option<TcpStream>> {
        let mut state = self.state.borrow_mut();
        if !state.takes_connections(run) {
            return Ok(None);
        }
        let (ours, theirs) = pair()?;
        Ok(state.hand_to(run, theirs).then_some(ours))
    }
}

impl State {
    fn takes_connections(&self, run: Run) -> bool {
        let holds = self.listeners.values().any(|listener| listener.deals_tcp_to(run));
        holds && self.members.contains_key(&run)
    }

    fn hand_to(&mut self, run: Run, socket: TcpStream) -> bool {
        let now = self.now();
        let Some(listener) = self.listeners.values().find(|listener| listener.deals_tcp_to(run)) else { return false };
        let Some(member) = self.members.get_mut(&run) else { return false };
        let accepted = Accepted::new(socket.into(), listener.id, &self.book);
        self.rota.resume(run, 1, now);
        member.hand(run, listener, Connection::new(accepted, listener.id, &self.options));
        member.flush();
        true
    }
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
