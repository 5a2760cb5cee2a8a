//! What the kernel knows of sockets (`sock_diag`): how many connections wait in a queue, which ones a process tree has
//! on a port, and how long they have been quiet. Layouts are those of `linux/inet_diag.h` and `linux/unix_diag.h`.
//!
//! Only sockets of the own network name space are seen. A query for connections walks the kernel's whole table of them.

mod connection;
mod netlink;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

pub use connection::{Connection, State};
use netlink::{attributes, number, word};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub local: SocketAddr,
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// Most connections that may wait.
    pub backlog: u32,
    /// Id of the user that it belongs to.
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

/// The sockets that listen on a TCP port, in both IP versions. Also used to find the owner of a port that is taken.
///
/// # Errors
/// If netlink is forbidden, as some containers do.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        netlink::query(&request(family, LISTEN, port), true, |message| found.extend(listener(message)))?;
    }
    Ok(found)
}

/// All connections with this local port, in both IP versions, of all processes.
///
/// # Errors
/// If netlink is forbidden, as some containers do.
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        netlink::query(&request(family, CONNECTED, port), true, |message| found.extend(Connection::read(message)))?;
    }
    Ok(found)
}

/// The connections with this local port that one of these processes has open. For a whole tree pass
/// [`super::super::process::tree::descendants`].
///
/// # Errors
/// If netlink is forbidden, as some containers do.
pub fn connections_of(processes: &[i32], port: u16) -> io::Result<Vec<Connection>> {
    let mut found = connections(port)?;
    if !found.is_empty() {
        // Listed after the connections. One that is accepted in between has no owner in the first list, but has one in
        // this.
        let theirs = sockets_of(processes);
        found.retain(|connection| theirs.contains(&connection.inode));
    }
    Ok(found)
}

/// The inodes of all sockets that these processes have open.
#[must_use]
pub fn sockets_of(processes: &[i32]) -> HashSet<u64> {
    let folders = processes.iter().flat_map(|process| fs::read_dir(format!("/proc/{process}/fd")));
    let targets = folders.flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// The inodes of all sockets that these processes have open; `None` if the open files of a living one may not be
/// listed.
#[must_use]
pub fn sockets_if_known(processes: &[i32]) -> Option<HashSet<u64>> {
    let is_hidden = |process: &&i32| {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        fs::read_dir(format!("/proc/{process}/fd")).is_err_and(|error| denied(&error))
    };
    if processes.iter().any(|process| is_hidden(&process)) { None } else { Some(sockets_of(processes)) }
}

/// How many connections wait to be accepted on this listening socket, of TCP or at a Unix path.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOENT` and similar for other files.
pub fn waiting(listening: impl AsFd) -> io::Result<u32> {
    match waiting_tcp(&listening) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            waiting_unix(rustix::fs::fstat(listening)?.st_ino)
        }
        known => known,
    }
}

fn waiting_tcp(listening: impl AsFd) -> io::Result<u32> {
    word(&tcp_info(listening)?, UNACKED).ok_or(io::ErrorKind::InvalidData.into())
}

/// How long nothing has been sent on a TCP connection: since its start, if nothing was ever sent.
///
/// # Errors
/// `EOPNOTSUPP` and similar if the file is no TCP socket.
pub fn unanswered_for(connection: impl AsFd) -> io::Result<Duration> {
    let silence = word(&tcp_info(connection)?, LAST_SENT).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_millis(silence.into()))
}

/// A `struct tcp_info`.
fn tcp_info(socket: impl AsFd) -> io::Result<[u8; 256]> {
    let mut info = [0; 256];
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the buffer.
    match unsafe {
        libc::getsockopt(number, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    } {
        0 => Ok(info),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if a datagram waits to be read. It may be empty.
pub fn has_datagrams(socket: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// How many connections wait at the listening Unix socket with this inode.
fn waiting_unix(inode: u64) -> io::Result<u32> {
    const SHOW_QUEUE: u32 = 0x10;
    const QUEUE: u16 = 4;
    let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut body = vec![libc::AF_UNIX as u8, 0, 0, 0];
    // All states; this inode; no cookie.
    for word in [u32::MAX, inode, SHOW_QUEUE, u32::MAX, u32::MAX] {
        body.extend(word.to_ne_bytes());
    }
    let mut waiting = None;
    netlink::query(&body, false, |message| {
        let after = message.get(16..).unwrap_or_default();
        let found = attributes(after).find(|(kind, _)| *kind == QUEUE);
        waiting = found.and_then(|(_, content)| word(content, 0));
    })?;
    waiting.ok_or(io::ErrorKind::InvalidData.into())
}

/// Number of open connections that were accepted at this Unix path.
#[must_use]
pub fn connected_unix(path: &std::path::Path) -> usize {
    // `Num RefCount Protocol Flags Type St Inode Path`; 03 is connected. An accepted socket has the path of its
    // listener.
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

/// Offset in `struct tcp_info` of the number of connections in the queue, for a listening socket.
const UNACKED: usize = 24;
/// Offset in `struct tcp_info` of the time since data was last sent, in ms.
const LAST_SENT: usize = 44;

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
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own() -> [i32; 1] {
        [i32::try_from(std::process::id()).unwrap()]
    }

    #[test]
    fn waiting_connections_are_counted_by_socket_and_by_port() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = TcpListener::bind(any) else { continue };
            let address = server.local_addr().unwrap();
            assert_eq!(waiting(&server).unwrap(), 0);
            let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            // The last packet of a handshake may be on its way.
            let start = std::time::Instant::now();
            while waiting(&server).unwrap() < 3 {
                assert!(start.elapsed() < std::time::Duration::from_secs(60), "the connections never arrived");
                std::thread::yield_now();
            }
            let seen = listeners(address.port()).unwrap();
            assert_eq!(seen.len(), 1);
            assert_eq!((seen[0].local, seen[0].waiting), (address, 3));
            assert!(sockets_of(&own()).contains(&seen[0].inode) && seen[0].backlog >= 128);
            server.accept().unwrap();
            assert_eq!(waiting(&server).unwrap(), 2);
        }
    }

    #[test]
    fn the_time_since_the_last_answer_is_known() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let start = std::time::Instant::now();
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        std::io::Write::write_all(&mut client, b"question").unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let (accepted, _) = server.accept().unwrap();
        let (waited, at_most) = (unanswered_for(&accepted).unwrap(), start.elapsed());
        // The kernel counts in steps of up to 10 ms.
        let step = Duration::from_millis(10);
        assert!(waited + step >= Duration::from_millis(60) && waited <= at_most + step, "{waited:?} of {at_most:?}");
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unanswered_for(&unix).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn waiting_connections_at_a_unix_path_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let inode = rustix::fs::fstat(&server).unwrap().st_ino;
        let _clients: Vec<_> = (0..2).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        assert_eq!((waiting(&server).unwrap(), waiting_unix(inode).unwrap()), (2, 2));
        drop(server);
        assert_eq!(waiting_unix(inode).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
