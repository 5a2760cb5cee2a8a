//! A connection as the kernel describes it, and whether it is idle.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::Duration;

use super::netlink::{attributes, word};
use super::{INFO, MESSAGE, address};

/// A connected TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its address on this machine.
    pub local: SocketAddr,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// Its state.
    pub state: State,
    /// Inode, by which the processes that have it open are found; 0 while it waits to be accepted, and after it was
    /// closed.
    pub inode: u64,
    /// Bytes that the program has not read.
    pub unread: u32,
    /// Bytes that the peer has not acknowledged.
    pub unsent: u32,
    /// Time since data was last received; since the start of the connection if none was.
    pub last_received: Duration,
    /// Time since data was last sent; since the start of the connection if none was.
    pub last_sent: Duration,
    /// Time since the last acknowledgement of the peer.
    pub last_acknowledged: Duration,
    /// Numbers of segments with data that were received, and that were sent.
    pub segments: (u32, u32),
    /// Duration of a round trip to the peer.
    pub round_trip: Duration,
}

/// A connection's state, as in `net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both sides may send.
    Established,
    /// The peer has ended its side; the program has not.
    CloseWait,
    /// The program has ended its side, or has closed the socket; the kernel does the rest.
    Closing,
    /// The handshake is not over.
    Opening,
}

impl State {
    fn from_kernel(number: u8) -> Option<State> {
        match number {
            1 => Some(State::Established),
            8 => Some(State::CloseWait),
            // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING.
            4 | 5 | 6 | 9 | 11 => Some(State::Closing),
            // SYN_SENT, SYN_RECV, NEW_SYN_RECV.
            2 | 3 | 12 => Some(State::Opening),
            _ => None,
        }
    }
}

impl Connection {
    /// Reads a message of the answer to a query.
    pub(super) fn read(message: &[u8]) -> Option<Connection> {
        let info = attributes(message.get(MESSAGE..)?).find(|(kind, _)| *kind == INFO).map(|(_, content)| content);
        let field = |at: usize| info.and_then(|info| word(info, at)).unwrap_or(0);
        let since = |at: usize| millis(field(at));
        Some(Connection {
            local: address(message, 4, 8)?,
            peer: address(message, 6, 24)?,
            state: State::from_kernel(*message.get(1)?)?,
            inode: u64::from(word(message, 68)?),
            unread: word(message, 56)?,
            unsent: word(message, 60)?,
            last_received: since(LAST_RECEIVED),
            last_sent: since(LAST_SENT),
            last_acknowledged: since(LAST_ACKNOWLEDGED),
            segments: (field(RECEIVED), field(SENT)),
            round_trip: Duration::from_micros(field(ROUND_TRIP).into()),
        })
    }

    /// True if no request is in progress: all data was read and sent, the peer was not the last to send, and the
    /// connection has been quiet for this long. That holds for a connection that is kept alive for a next request. It
    /// also holds for one whose client has sent nothing yet, and for one whose answer pauses for longer than this.
    #[must_use]
    pub fn is_idle(&self, quiet: Duration) -> bool {
        let still = self.last_sent >= quiet && self.last_received >= quiet;
        self.state == State::Established && self.unread == 0 && self.unsent == 0 && still && !self.awaits_answer()
    }

    /// True if the peer was the last to send. The kernel's clock ticks every few milliseconds. Between processes of one
    /// machine the answer can be in the same tick as its request, and the next request in the same tick as the answer.
    /// Then the acknowledgement decides: a peer that sends no further request acknowledges the answer some ticks later,
    /// except for the first answer on a connection.
    fn awaits_answer(&self) -> bool {
        match self.last_sent.cmp(&self.last_received) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => {
                let acknowledged_later = self.last_acknowledged < self.last_received;
                !acknowledged_later && !matches!(self.segments, (0, _) | (1, 1..))
            }
        }
    }

    /// True if the program may still use the connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }
}

/// Offsets in `struct tcp_info`: milliseconds since data was sent, was received, and since the last acknowledgement.
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;
const LAST_ACKNOWLEDGED: usize = 56;
/// Offset of the round trip time, in microseconds.
const ROUND_TRIP: usize = 68;
/// Offsets of the numbers of segments with data.
const RECEIVED: usize = 152;
const SENT: usize = 156;

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::os::net::diag::{connections, connections_of};

    fn own() -> [i32; 1] {
        [i32::try_from(std::process::id()).unwrap()]
    }

    #[test]
    fn connections_have_an_owner_and_the_times_of_their_last_data() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        // The last packet of the handshake may be on its way.
        let start = std::time::Instant::now();
        let not_accepted = loop {
            let found = connections(address.port()).unwrap();
            if !found.is_empty() {
                break found;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the connection never arrived");
            std::thread::yield_now();
        };
        assert_eq!(not_accepted.len(), 1);
        assert_eq!((not_accepted[0].inode, not_accepted[0].peer), (0, client.local_addr().unwrap()));
        assert_eq!(connections_of(&own(), address.port()).unwrap(), []);
        let (mut accepted, _) = server.accept().unwrap();
        let now = || connections_of(&own(), address.port()).unwrap().pop().unwrap();
        let until = |what: &str, holds: &dyn Fn(&Connection) -> bool| {
            let start = std::time::Instant::now();
            while !holds(&now()) {
                assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", now());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let quiet = Duration::from_millis(30);
        until("quiet from the start", &|connection| connection.is_idle(quiet));
        client.write_all(b"question").unwrap();
        until("unread", &|connection| connection.unread == 8 && !connection.is_idle(Duration::ZERO));
        let mut buffer = [0; 8];
        accepted.read_exact(&mut buffer).unwrap();
        // The answer is still missing long after the question.
        until("being answered", &|connection| connection.last_received > quiet * 2);
        assert!(!now().is_idle(quiet), "{:?}", now());
        accepted.write_all(b"answer").unwrap();
        client.read_exact(&mut buffer[..6]).unwrap();
        until("idle", &|connection| connection.is_idle(quiet));
        drop(client);
        until("half closed", &|connection| connection.state == State::CloseWait && connection.is_open());
        drop(accepted);
        assert_eq!(connections_of(&own(), address.port()).unwrap(), []);
    }

    #[test]
    fn a_connection_with_a_request_right_after_an_answer_is_not_idle() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let (quiet, mut buffer) = (Duration::from_millis(100), [0; 8]);
        let quiet_now = || {
            let start = std::time::Instant::now();
            loop {
                let now = connections_of(&own(), address.port()).unwrap().pop().unwrap();
                if now.last_received >= quiet && now.last_sent >= quiet {
                    return now;
                }
                assert!(start.elapsed() < Duration::from_secs(20), "{now:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        for answers in 0..4 {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"question").unwrap();
            let (mut accepted, _) = server.accept().unwrap();
            accepted.read_exact(&mut buffer).unwrap();
            for _ in 0..answers {
                accepted.write_all(b"answered").unwrap();
                client.read_exact(&mut buffer).unwrap();
                client.write_all(b"question").unwrap();
                accepted.read_exact(&mut buffer).unwrap();
            }
            let asked = quiet_now();
            assert!(!asked.is_idle(quiet), "after {answers} answers: {asked:?}");
            accepted.write_all(b"answered").unwrap();
            client.read_exact(&mut buffer).unwrap();
            let answered = quiet_now();
            assert!(answered.is_idle(quiet), "after {answers} answers and one more: {answered:?}");
            drop((client, accepted));
        }
    }

    #[test]
    fn a_connection_is_idle_after_an_answer_in_the_same_tick() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let (quiet, mut buffer) = (Duration::from_millis(100), [0; 8]);
        for answers in 1..4 {
            let mut client = TcpStream::connect(address).unwrap();
            let (mut accepted, _) = server.accept().unwrap();
            for _ in 0..answers {
                client.write_all(b"question").unwrap();
                accepted.read_exact(&mut buffer).unwrap();
                accepted.write_all(b"answered").unwrap();
                client.read_exact(&mut buffer).unwrap();
            }
            let start = std::time::Instant::now();
            while !connections_of(&own(), address.port()).unwrap()[0].is_idle(quiet) {
                assert!(start.elapsed() < Duration::from_secs(20), "after {answers} answers");
                std::thread::sleep(Duration::from_millis(5));
            }
            drop((client, accepted));
        }
    }
}
