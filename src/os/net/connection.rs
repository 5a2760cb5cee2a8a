//! The addresses of an accepted connection, and its refusal with a last answer.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{
    RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType, getpeername, getsockname, recv, send, shutdown,
};

use super::socket::LocalAddress;

/// The local address of a stream socket that does not listen; `None` for any other file.
#[must_use]
pub fn local_address(file: impl AsFd) -> Option<LocalAddress> {
    let file = file.as_fd();
    if socket_type(file).ok()? != SocketType::STREAM || socket_acceptconn(file).ok()? {
        return None;
    }
    let address = getsockname(file).ok()?;
    if let Ok(ip) = SocketAddr::try_from(address.clone()) {
        return Some(LocalAddress::Ip(ip));
    }
    let address = SocketAddrUnix::try_from(address).ok()?;
    let path = match (address.path_bytes(), address.abstract_name()) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => [b"\0", name].concat(),
        (None, None) => return None,
    };
    Some(LocalAddress::Path(OsString::from_vec(path).into()))
}

/// The IP address of a connection's client; `None` if it has none, or has closed the connection.
#[must_use]
pub fn peer_address(connection: impl AsFd) -> Option<IpAddr> {
    let peer = getpeername(connection).ok()??;
    SocketAddr::try_from(peer).ok().map(|peer| peer.ip())
}

/// Sends this answer to a client, if it is not empty, and then the end of the connection. The bytes that the client has
/// sent so far are read before: if a socket with unread bytes is closed, the kernel resets the connection and drops the
/// answer. Never waits.
pub fn dismiss(connection: impl AsFd, answer: &[u8]) {
    const PIECES: usize = 16;
    let mut piece = [0; 16 << 10];
    for _ in 0..PIECES {
        match recv(&connection, &mut piece, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    // Fails if the client has closed the connection.
    let _ = send(&connection, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = shutdown(&connection, Shutdown::Write);
}
