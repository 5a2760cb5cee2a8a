//! Listening sockets: TCP on one or both stacks and Unix paths, and bound UDP sockets, with the options that servers
//! expect.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, getsockname, listen,
    socket_with,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The shortest accept queue that is requested; the kernel limits it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 511;

/// The address at which a stream socket is to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// All addresses of both IP versions; IPv4 alone where the machine has no IPv6.
    AnyAddress {
        /// The port; 0 lets the kernel choose one.
        port: u16,
    },
    /// One address.
    Tcp {
        /// The address. Port 0 lets the kernel choose one.
        address: SocketAddr,
        /// True if an IPv6 address accepts no IPv4 traffic.
        v6only: bool,
    },
    /// The path of a socket file.
    Unix {
        /// Absolute path; one that begins with a zero byte is a name in the abstract name space.
        path: PathBuf,
        /// True if all users may read the file.
        readable_all: bool,
        /// True if all users may write to the file, which a client needs to connect.
        writable_all: bool,
    },
}

/// A listening socket. Its socket file is removed with it, if the file at the path is still the one that it made.
#[derive(Debug)]
pub struct Listening {
    socket: OwnedFd,
    address: LocalAddress,
    file: Option<SocketFile>,
}

/// The address at which a socket really listens, for display and for workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalAddress {
    /// TCP or UDP.
    Ip(SocketAddr),
    /// A Unix path.
    Path(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Ip(address) => address.fmt(out),
            LocalAddress::Path(path) => path.display().fmt(out),
        }
    }
}

impl LocalAddress {
    /// True if a connection with the local address `other` may have been accepted at this address.
    #[must_use]
    pub fn covers(&self, other: &LocalAddress) -> bool {
        match (self, other) {
            (LocalAddress::Ip(own), LocalAddress::Ip(at)) => {
                let any = own.ip().is_unspecified() && own.is_ipv4() == at.is_ipv4();
                own.port() == at.port() && (any || own.ip() == at.ip())
            }
            (LocalAddress::Path(own), LocalAddress::Path(at)) => own == at,
            (LocalAddress::Ip(_), LocalAddress::Path(_)) | (LocalAddress::Path(_), LocalAddress::Ip(_)) => false,
        }
    }
}

impl Listening {
    /// Opens a non-blocking, close-on-exec listening socket. `backlog` is raised to [`BACKLOG`].
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `listen(2)`; `AddrInUse` for a Unix path at which a process listens. A
    /// socket file without a listening process is replaced.
    pub fn open(place: &Place, backlog: i32) -> io::Result<Listening> {
        let backlog = backlog.max(BACKLOG);
        match place {
            Place::AnyAddress { port } => open_any(*port, backlog),
            Place::Tcp { address, v6only } => open_tcp(*address, *v6only, backlog),
            Place::Unix { path, readable_all, writable_all } => {
                open_unix(path, Permission::More(mode_bits(*readable_all, *writable_all)), backlog)
            }
        }
    }

    /// Opens a listening socket at a Unix path, whose file has exactly these permissions.
    ///
    /// # Errors
    /// See [`Listening::open`].
    pub fn open_path(path: &Path, mode: u32, backlog: i32) -> io::Result<Listening> {
        open_unix(path, Permission::Exactly(mode), backlog.max(BACKLOG))
    }

    /// The address at which it listens, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> &LocalAddress {
        &self.address
    }

    /// Accepts the next waiting connection: non-blocking, close-on-exec.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `EMFILE`, `ENFILE`, `ENOMEM` when descriptors or memory are short; `ECONNABORTED`
    /// and similar when that connection is gone already.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
    }
}

impl Listening {
    /// A listening socket that another process opened; `file` is the socket file that it made.
    #[must_use]
    pub fn adopt(socket: OwnedFd, address: LocalAddress, file: Option<SocketFile>) -> Listening {
        Listening { socket, address, file }
    }

    /// The socket file, for a Unix path.
    #[must_use]
    pub fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// The socket and its file, as separate values.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Option<SocketFile>) {
        (self.socket, self.file)
    }

    /// Registers the socket with the runtime. It is readable when a connection waits.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn watch(self) -> io::Result<AsyncFd<Listening>> {
        // SAFETY: `as_raw_fd` returns the number of the socket in a private field that is never replaced, so the number
        // stays the same and open until the AsyncFd drops it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }
}

/// Registers a socket with the runtime, for reading.
///
/// # Errors
/// If the runtime cannot watch the socket.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the number of an OwnedFd never changes, and it is open until the AsyncFd drops it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Accepts the next waiting connection of a socket that may be blocking, since a program opened it. No other process
/// may accept from it: during the call the socket is non-blocking for all processes that have it.
///
/// # Errors
/// See [`Listening::accept`].
pub fn accept_at_once(listening: impl AsFd) -> io::Result<OwnedFd> {
    let before = fcntl_getfl(&listening)?;
    fcntl_setfl(&listening, before | OFlags::NONBLOCK)?;
    let accepted = accept_with(&listening, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
    fcntl_setfl(&listening, before)?;
    Ok(accepted?)
}

impl AsFd for Listening {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Listening {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// A bound UDP socket, non-blocking and close-on-exec.
///
/// # Errors
/// Those of `socket(2)` and `bind(2)`.
pub fn bind_udp(address: SocketAddr, v6only: bool, reuse: bool) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = ip_socket(address, SocketType::DGRAM)?;
    set_socket_reuseaddr(&socket, reuse)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, v6only)?;
    }
    bind(&socket, &address)?;
    let local = ip_address(&socket)?;
    Ok((socket, local))
}

/// The socket file of a Unix listener, removed on drop unless another file has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    id: SocketFileId,
}

/// The identity of a file: another file at the same path has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFileId {
    path: PathBuf,
    /// Device and inode.
    inode: (u64, u64),
}

impl SocketFile {
    /// A file that another process made. From now on this process removes it.
    #[must_use]
    pub fn adopt(id: SocketFileId) -> SocketFile {
        SocketFile { id }
    }

    /// Its identity, to be recorded for the next God.
    #[must_use]
    pub fn id(&self) -> &SocketFileId {
        &self.id
    }

    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { id: SocketFileId { path: path.to_owned(), inode: inode(path)? } })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.id.path).is_ok_and(|now| now == self.id.inode) {
            // A file that cannot be removed is stale for the next process that listens there.
            let _ = std::fs::remove_file(&self.id.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

fn ip_socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    Ok(socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

fn ip_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

fn open_any(port: u16, backlog: i32) -> io::Result<Listening> {
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    open_tcp(v6, false, backlog).or_else(|_| open_tcp(v4, false, backlog))
}

fn open_tcp(address: SocketAddr, v6only: bool, backlog: i32) -> io::Result<Listening> {
    let socket = ip_socket(address, SocketType::STREAM)?;
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, v6only)?;
    }
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    let address = LocalAddress::Ip(ip_address(&socket)?);
    Ok(Listening { socket, address, file: None })
}

/// The permissions of a socket file.
#[derive(Clone, Copy)]
enum Permission {
    /// These bits in addition to those that the umask leaves.
    More(u32),
    /// Exactly these bits, from the first moment.
    Exactly(u32),
}

fn open_unix(path: &Path, permission: Permission, backlog: i32) -> io::Result<Listening> {
    let (address, is_file) = unix_address(path)?;
    let unix_socket = || {
        let socket = unix_socket()?;
        if let Permission::Exactly(mode) = permission {
            // The kernel makes the file with the mode of the socket.
            rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
        }
        io::Result::Ok(socket)
    };
    let mut socket = unix_socket()?;
    if let Err(error) = bind(&socket, &address) {
        if error != rustix::io::Errno::ADDRINUSE || !is_file || !is_stale(path, &address)? {
            return Err(error.into());
        }
        std::fs::remove_file(path)?;
        socket = unix_socket()?;
        bind(&socket, &address)?;
    }
    let file = if is_file { Some(SocketFile::at(path)?) } else { None };
    let mode = match permission {
        Permission::More(0) => None,
        Permission::More(more) if is_file => Some(std::fs::symlink_metadata(path)?.permissions().mode() | more),
        Permission::More(_) => None,
        Permission::Exactly(mode) => Some(mode),
    };
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listen(&socket, backlog)?;
    Ok(Listening { socket, address: LocalAddress::Path(path.to_owned()), file })
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

/// The address, and whether it has a socket file.
fn unix_address(path: &Path) -> io::Result<(SocketAddrUnix, bool)> {
    use std::os::unix::ffi::OsStrExt;
    match path.as_os_str().as_bytes().split_first() {
        Some((0, name)) => Ok((SocketAddrUnix::new_abstract_name(name)?, false)),
        _ => Ok((SocketAddrUnix::new(path)?, true)),
    }
}

/// True for a socket file whose owner is gone: it refuses connections. No other file at the path may be removed.
fn is_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    Ok(connect(&unix_socket()?, address) == Err(rustix::io::Errno::CONNREFUSED))
}

fn mode_bits(readable_all: bool, writable_all: bool) -> u32 {
    let read = if readable_all { 0o444 } else { 0 };
    let write = if writable_all { 0o222 } else { 0 };
    read | write
}

#[cfg(test)]
mod tests;
