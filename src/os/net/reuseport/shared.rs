//! Sockets that share a port: what the kernel requires of them, and which of them form a group.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::fstat;
use rustix::net::sockopt::{
    ipv6_v6only, set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport, socket_acceptconn, socket_domain,
    socket_protocol, socket_type,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

/// The properties by which the kernel groups sockets that share a port: those with the same key are one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The address that the socket is bound to.
    pub address: SocketAddr,
    /// True for an IPv6 socket that accepts no IPv4 traffic.
    pub v6only: bool,
    /// False for UDP.
    pub tcp: bool,
    /// Id of the user that made the socket. Sockets of different users do not share a port.
    pub user: u32,
    /// Number of the network device that the socket is limited to, or 0.
    device: u32,
    /// The network name space; 0 where the kernel does not report it (before 5.14).
    namespace: u64,
}

/// `SO_BINDTOIFINDEX` and `SO_NETNS_COOKIE` of `asm-generic/socket.h`.
const DEVICE: libc::c_int = 62;
const NAMESPACE: libc::c_int = 71;

impl Key {
    /// The key of sockets that this process makes at this address. With an IPv6 address they accept IPv4, too.
    ///
    /// # Errors
    /// If the machine does not support that IP version.
    pub fn new(address: SocketAddr, tcp: bool) -> io::Result<Key> {
        let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let socket = socket_with(family(address), kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            set_ipv6_v6only(&socket, false)?;
        }
        Key::at(&socket, address)?.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The key of a bound socket; `None` if it is not TCP, MPTCP or UDP over IP.
    ///
    /// # Errors
    /// If the file is no socket.
    pub fn of(socket: impl AsFd) -> io::Result<Option<Key>> {
        match SocketAddr::try_from(getsockname(&socket)?) {
            Ok(address) => Key::at(socket, address),
            Err(_) => Ok(None),
        }
    }

    /// The key that a socket will have after it is bound to this address; `None` for sockets without a key (see
    /// [`Key::of`]), and for those of another family than the address.
    ///
    /// # Errors
    /// If the file is no socket.
    pub fn at(socket: impl AsFd, address: SocketAddr) -> io::Result<Option<Key>> {
        let socket = socket.as_fd();
        if family(address) != socket_domain(socket)? {
            return Ok(None);
        }
        let tcp = match socket_type(socket)? {
            SocketType::STREAM => true,
            SocketType::DGRAM => false,
            _ => return Ok(None),
        };
        let v6only = address.is_ipv6() && ipv6_v6only(socket)?;
        Ok(Some(Key {
            address,
            v6only,
            tcp,
            user: fstat(socket)?.st_uid,
            device: get_option(socket, libc::SOL_SOCKET, DEVICE).unwrap_or(0),
            namespace: get_option(socket, libc::SOL_SOCKET, NAMESPACE).unwrap_or(0),
        }))
    }

    /// True if the kernel refuses sockets with both keys, unless they share the port.
    #[must_use]
    pub fn overlaps(&self, other: &Key) -> bool {
        let (one, two) = (self.address, other.address);
        let any = |key: &Key| key.address.ip().is_unspecified();
        let both_stacks = |key: &Key| key.address.is_ipv6() && any(key) && !key.v6only;
        let devices = self.device == other.device || self.device == 0 || other.device == 0;
        let addresses = match one.is_ipv6() == two.is_ipv6() {
            true => one.ip() == two.ip() || any(self) || any(other),
            false => both_stacks(self) || both_stacks(other),
        };
        let place = (self.tcp, one.port(), self.namespace) == (other.tcp, two.port(), other.namespace);
        place && devices && addresses
    }

    /// A new socket with this key, bound and not listening, for its group. Non-blocking, close-on-exec.
    ///
    /// # Errors
    /// `EXDEV` if the key is of another network name space, `EADDRINUSE` if other sockets have the address, `EPERM` if
    /// the key is another user's.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.bind_new(true)
    }

    /// True if a socket has the address, even one that shares its port.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.bind_new(false).is_err_and(|error| error.raw_os_error() == Some(libc::EADDRINUSE))
    }

    /// The addresses at which sockets with this key are reached from this machine, the likeliest first. They are also
    /// valid source addresses of such a connection.
    #[must_use]
    pub fn reachable(&self) -> Vec<SocketAddr> {
        let all: &[IpAddr] = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            IpAddr::V6(ip) if ip.is_unspecified() && self.v6only => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
            // A machine may support sockets of IPv6 without having an address of it.
            IpAddr::V6(ip) if ip.is_unspecified() => {
                &[IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)]
            }
            _ => return vec![self.address],
        };
        all.iter().map(|ip| SocketAddr::new(*ip, self.address.port())).collect()
    }

    /// True if connections to this address arrive at sockets with this key.
    #[must_use]
    pub fn includes(&self, to: SocketAddr) -> bool {
        let (own, ip) = (self.address.ip(), to.ip().to_canonical());
        let any = match own {
            IpAddr::V4(own) => own.is_unspecified() && ip.is_ipv4(),
            IpAddr::V6(own) => own.is_unspecified() && (ip.is_ipv6() || !self.v6only),
        };
        self.address.port() == to.port() && (any || own.to_canonical() == ip)
    }

    /// True if sockets with this key can be reached from this socket: it is in their network name space, and they are
    /// not limited to a network device.
    #[must_use]
    pub fn is_reachable_from(&self, client: impl AsFd) -> bool {
        let namespace = get_option(client, libc::SOL_SOCKET, NAMESPACE).unwrap_or(0);
        self.device == 0 && self.namespace == namespace
    }

    fn bind_new(&self, shared: bool) -> io::Result<OwnedFd> {
        let kind = if self.tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let socket = socket_with(family(self.address), kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        set_socket_reuseaddr(&socket, self.tcp)?;
        set_socket_reuseport(&socket, shared)?;
        if self.address.is_ipv6() {
            set_ipv6_v6only(&socket, self.v6only)?;
        }
        if self.device != 0 {
            set_option(&socket, DEVICE, &self.device)?;
        }
        give(&socket, self.user)?;
        if Key::at(&socket, self.address)? != Some(*self) {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        bind(&socket, &self.address)?;
        Ok(socket)
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// Gives the socket to this user.
fn give(socket: impl AsFd, user: u32) -> io::Result<()> {
    if fstat(&socket)?.st_uid != user {
        rustix::fs::fchown(&socket, Some(rustix::fs::Uid::from_raw(user)), None)?;
    }
    Ok(())
}

/// Allows other sockets of the same user that also allow it to bind to the same address. To be called before the bind.
///
/// # Errors
/// `EOPNOTSUPP` for sockets that cannot be shared.
pub fn share(socket: impl AsFd) -> io::Result<()> {
    Ok(set_socket_reuseport(socket, true)?)
}

/// True if the socket allows others to bind to its address, because the program or [`share`] set that.
#[must_use]
pub fn is_shared(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_reuseport(socket).unwrap_or(false)
}

/// True for a socket of multipath TCP. Its port can be shared, but no program can balance it.
#[must_use]
pub fn is_multipath(socket: impl AsFd) -> bool {
    socket_protocol(socket).ok().flatten() == Some(rustix::net::ipproto::MPTCP)
}

/// Options that matter before a socket is bound, by level and name, and those that accepted connections inherit.
const CARRIED: &[(libc::c_int, libc::c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
];

/// A plain TCP socket in the place of one of multipath TCP, with the same owner and options, neither bound nor
/// connected. It is in the network name space of this process.
///
/// # Errors
/// `EXDEV` if the other socket is in another name space.
pub fn single_path(multipath: impl AsFd) -> io::Result<OwnedFd> {
    let from = multipath.as_fd();
    let domain = if socket_domain(from)? == AddressFamily::INET6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let to = socket_with(domain, SocketType::STREAM, SocketFlags::CLOEXEC, Some(rustix::net::ipproto::TCP))?;
    let namespace = |socket| get_option::<u64>(socket, libc::SOL_SOCKET, NAMESPACE).unwrap_or(0);
    if namespace(from) != namespace(to.as_fd()) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    carry_options(from, &to)?;
    if is_shared(from) {
        share(&to)?;
    }
    give(&to, fstat(from)?.st_uid)?;
    Ok(to)
}

/// Copies the options that matter before a bind, and whether calls wait, from one socket to another. Options that the
/// other socket does not have are left out.
///
/// # Errors
/// None is known.
pub fn carry_options(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    for (level, name) in CARRIED {
        if let Ok(value) = get_option::<libc::c_int>(from, *level, *name) {
            // Fails for options that the other type of socket does not have or cannot change any more.
            let _ = set_option_at(to, *level, *name, &value);
        }
    }
    let blocks = !rustix::fs::fcntl_getfl(from)?.contains(rustix::fs::OFlags::NONBLOCK);
    Ok(rustix::io::ioctl_fionbio(to, !blocks)?)
}

/// True while a stream socket listens.
#[must_use]
pub fn listens(socket: impl AsFd) -> bool {
    socket_acceptconn(socket).unwrap_or(false)
}

/// False for UDP.
pub(super) fn has_connections(socket: impl AsFd) -> bool {
    !socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
}

pub(super) fn set_option<T>(socket: impl AsFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_option_at(socket, libc::SOL_SOCKET, name, value)
}

fn set_option_at<T>(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads a value of the given size. The only value with a pointer is a filter, whose program is
    // valid during the call and is copied.
    match unsafe { libc::setsockopt(number, level, name, std::ptr::from_ref(value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Types for which all bytes are a valid value.
trait Number: Default {}
impl Number for libc::c_int {}
impl Number for u32 {}
impl Number for u64 {}

fn get_option<T: Number>(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most as many bytes as the number is long.
    match unsafe { libc::getsockopt(number, level, name, (&raw mut value).cast(), &raw mut length) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
