//! What the kernel knows of sockets (`sock_diag`): how many connections wait in a queue, which ones a process tree has
//! on a port, and how long nothing was said on them. Layouts are those of `linux/inet_diag.h` and `linux/unix_diag.h`.
//!
//! Only sockets of our own network name space are seen. Asking for connections walks the kernel's whole table of them.

mod netlink;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use netlink::{attributes, number, word};

/// A TCP socket with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our side of it.
    pub local: SocketAddr,
    /// The other side.
    pub peer: SocketAddr,
    /// Where it is in its life.
    pub state: State,
    /// By which the processes that have it open can be told; 0 while it waits to be accepted, and after it was closed.
    pub inode: u64,
    /// Bytes that the program has not read.
    pub unread: u32,
    /// Bytes that the peer has not acknowledged.
    pub unsent: u32,
    /// Since when nothing was received; from the start of the connection, if nothing was.
    pub last_received: Duration,
    /// Since when nothing was sent, likewise.
    pub last_sent: Duration,
    /// How long a round trip to the peer takes.
    pub round_trip: Duration,
}

/// A connection's state, as in `net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both sides may speak.
    Established,
    /// The peer has said all; the program has not.
    CloseWait,
    /// The program has said all, or has closed: the kernel does the rest.
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
    /// True if nothing is under way on it: all was read and sent, our side spoke last or nobody did, and it has been
    /// quiet for so long. It is how a connection kept alive for a next request looks, and also one whose client has not
    /// begun, and one whose answer takes longer than this to pause and go on.
    #[must_use]
    pub fn is_idle(&self, quiet: Duration) -> bool {
        let answered = self.last_sent <= self.last_received;
        let still = self.last_sent >= quiet && self.last_received >= quiet;
        self.state == State::Established && self.unread == 0 && self.unsent == 0 && answered && still
    }

    /// True if the program still has something to do with it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }
}

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub local: SocketAddr,
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// How many may.
    pub backlog: u32,
    /// User it belongs to.
    pub user: u32,
    /// Its inode.
    pub inode: u64,
}

/// Sets of states, as bits by the kernel's numbers.
const LISTEN: u32 = 1 << 10;
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// `INET_DIAG_INFO`: a `struct tcp_info`.
const INFO: u16 = 2;

/// Who listens on a TCP port, in both IP versions: for telling who has a port that is taken, too.
///
/// # Errors
/// Where netlink is forbidden.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        netlink::ask(&request(family, LISTEN, port), true, |message| found.extend(listener(message)))?;
    }
    Ok(found)
}

/// All connections whose local port this is, in both IP versions, whoever has them.
///
/// # Errors
/// Where netlink is forbidden.
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        netlink::ask(&request(family, CONNECTED, port), true, |message| found.extend(connection(message)))?;
    }
    Ok(found)
}

/// Those of them that one of these processes has open. A whole tree: [`super::tree::descendants`].
///
/// # Errors
/// Where netlink is forbidden.
pub fn connections_of(processes: &[i32], port: u16) -> io::Result<Vec<Connection>> {
    let mut found = connections(port)?;
    if !found.is_empty() {
        // Looked at afterwards: one that was accepted in between is in nobody's hands by the list, and in theirs by this.
        let theirs = sockets_of(processes);
        found.retain(|connection| theirs.contains(&connection.inode));
    }
    Ok(found)
}

/// The inodes of all sockets these processes have open.
#[must_use]
pub fn sockets_of(processes: &[i32]) -> HashSet<u64> {
    let folders = processes.iter().flat_map(|process| fs::read_dir(format!("/proc/{process}/fd")));
    let targets = folders.flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// The same, or `None` if one of them lives and cannot be looked into.
#[must_use]
pub fn sockets_if_known(processes: &[i32]) -> Option<HashSet<u64>> {
    let is_hidden = |process: &&i32| {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        fs::read_dir(format!("/proc/{process}/fd")).is_err_and(|error| denied(&error))
    };
    if processes.iter().any(|process| is_hidden(&process)) { None } else { Some(sockets_of(processes)) }
}

/// How many connections wait to be accepted on this listening TCP socket.
///
/// # Errors
/// `EOPNOTSUPP` and the like if it is no TCP socket.
pub fn waiting(listening: impl AsFd) -> io::Result<u32> {
    let mut info = [0; 256];
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    let number = listening.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most as many bytes as it is told of.
    match unsafe {
        libc::getsockopt(number, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    } {
        0 => word(&info, UNACKED).ok_or(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many connections wait to be accepted on the listening Unix socket with this inode, and how many may.
///
/// # Errors
/// `ENOENT` if there is none.
pub fn waiting_unix(inode: u64) -> io::Result<(u32, u32)> {
    const SHOW_QUEUE: u32 = 0x10;
    const QUEUE: u16 = 4;
    let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut body = vec![libc::AF_UNIX as u8, 0, 0, 0];
    // All states; this inode; no cookie.
    for word in [u32::MAX, inode, SHOW_QUEUE, u32::MAX, u32::MAX] {
        body.extend(word.to_ne_bytes());
    }
    let mut queue = None;
    netlink::ask(&body, false, |message| {
        let after = message.get(16..).unwrap_or_default();
        let found = attributes(after).find(|(kind, _)| *kind == QUEUE);
        queue = found.and_then(|(_, content)| Some((word(content, 0)?, word(content, 4)?)));
    })?;
    queue.ok_or(io::ErrorKind::InvalidData.into())
}

/// How many sockets have a peer that connected to this Unix path.
#[must_use]
pub fn connected_unix(path: &std::path::Path) -> usize {
    // `Num RefCount Protocol Flags Type St Inode Path`; 03 is connected, and an accepted socket bears its listener's path.
    let Ok(table) = fs::read_to_string("/proc/net/unix") else { return 0 };
    let of = path.to_string_lossy();
    let is_one = |line: &&str| {
        let mut words = line.split_ascii_whitespace().skip(5);
        words.next() == Some("03") && words.nth(1).is_some() && line.ends_with(&format!(" {of}"))
    };
    table.lines().filter(is_one).count()
}

/// `struct inet_diag_req_v2`: TCP sockets of this family in these states with this local port.
fn request(family: i32, states: u32, port: u16) -> Vec<u8> {
    let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 1 << (INFO - 1), 0];
    body.extend(states.to_ne_bytes());
    body.extend(port.to_be_bytes());
    // The peer's port, both addresses and the interface: any. No cookie.
    body.extend([0; 2 + 16 + 16 + 4]);
    body.extend([0xff; 8]);
    body
}

/// Where in `struct tcp_info` what is: the queue of one that listens; milliseconds since data was sent and received.
const UNACKED: usize = 24;
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;
/// Microseconds.
const ROUND_TRIP: usize = 68;

fn connection(message: &[u8]) -> Option<Connection> {
    let info = attributes(message.get(MESSAGE..)?).find(|(kind, _)| *kind == INFO).map(|(_, content)| content);
    let since = |at: usize| info.and_then(|info| word(info, at)).map_or(Duration::ZERO, millis);
    Some(Connection {
        local: address(message, 4, 8)?,
        peer: address(message, 6, 24)?,
        state: State::from_kernel(*message.get(1)?)?,
        inode: u64::from(word(message, 68)?),
        unread: word(message, 56)?,
        unsent: word(message, 60)?,
        last_received: since(LAST_RECEIVED),
        last_sent: since(LAST_SENT),
        round_trip: Duration::from_micros(info.and_then(|info| word(info, ROUND_TRIP)).unwrap_or(0).into()),
    })
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

fn listener(message: &[u8]) -> Option<Listener> {
    Some(Listener {
        local: address(message, 4, 8)?,
        waiting: word(message, 56)?,
        backlog: word(message, 60)?,
        user: word(message, 64)?,
        inode: u64::from(word(message, 68)?),
    })
}

fn address(message: &[u8], port_at: usize, ip_at: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(number(message, port_at)?);
    let ip = match i32::from(*message.first()?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(number::<4>(message, ip_at)?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(number::<16>(message, ip_at)?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own() -> [i32; 1] {
        [i32::try_from(std::process::id()).unwrap()]
    }

    #[test]
    fn a_queue_is_counted_from_both_sides() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = TcpListener::bind(any) else { continue };
            let address = server.local_addr().unwrap();
            assert_eq!(waiting(&server).unwrap(), 0);
            let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            assert_eq!(waiting(&server).unwrap(), 3);
            let seen = listeners(address.port()).unwrap();
            assert_eq!(seen.len(), 1);
            assert_eq!((seen[0].local, seen[0].waiting), (address, 3));
            assert!(sockets_of(&own()).contains(&seen[0].inode) && seen[0].backlog >= 128);
            server.accept().unwrap();
            assert_eq!(waiting(&server).unwrap(), 2);
        }
    }

    #[test]
    fn connections_are_told_with_their_owner_and_when_somebody_spoke() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let not_accepted = connections(address.port()).unwrap();
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
        // Long after the question there is still an answer to come.
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
    fn a_unix_queue_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let inode = rustix::fs::fstat(&server).unwrap().st_ino;
        let _clients: Vec<_> = (0..2).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(waiting_unix(inode).unwrap().0, 2);
        drop(server);
        assert_eq!(waiting_unix(inode).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
