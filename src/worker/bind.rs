//! An ordinary bind, for a worker that runs without pmr.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::{Address, Stream, parsed};

/// Length of the accept queue; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: u32 = 511;

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The file of a Unix socket, removed on drop unless another file has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    inode: (u64, u64),
}

impl Socket {
    /// Listens on an address in one of the forms of [`super::listener`]. Returns the real address, too.
    pub(super) fn bind(address: &str) -> io::Result<(Socket, Address)> {
        match parsed(address) {
            Ok(Address::Ip(address)) => tcp(address),
            Ok(Address::Path(path)) => unix(&path),
            Err(error) => any(address.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(error)?),
        }
    }

    /// Waits for the next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| stream.into()),
            Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| stream.into()),
        }
    }
}

/// All addresses of both IP versions; IPv4 alone where the machine has no IPv6.
fn any(port: u16) -> io::Result<(Socket, Address)> {
    tcp((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|_| tcp((Ipv4Addr::UNSPECIFIED, port).into()))
}

fn tcp(address: SocketAddr) -> io::Result<(Socket, Address)> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = Address::Ip(listener.local_addr()?);
    Ok((Socket::Tcp(listener), address))
}

/// Replaces a socket file that no process listens on any more.
fn unix(path: &Path) -> io::Result<(Socket, Address)> {
    let bind = || {
        let socket = UnixSocket::new_stream()?;
        socket.bind(path).map(|()| socket)
    };
    let socket = match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path)? => {
            std::fs::remove_file(path)?;
            bind()?
        }
        bound => bound?,
    };
    let file = SocketFile { path: path.to_owned(), inode: inode(path)? };
    Ok((Socket::Unix { listener: socket.listen(BACKLOG)?, _file: file }, Address::Path(path.to_owned())))
}

/// True for a socket file whose owner is gone: it refuses connections. No other file at the path may be removed.
fn is_stale(path: &Path) -> io::Result<bool> {
    let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
    let refused = || StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    Ok(is_socket && refused())
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            // A file that cannot be removed is stale for the next process that listens there.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_file_is_replaced_one_in_use_is_refused_and_the_own_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves a stale file behind");
        let bound = unix(&path).unwrap();
        assert_eq!(unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_on_all_addresses_accepts_both_ip_versions() {
        let (socket, Address::Ip(address)) = any(0).unwrap() else { panic!("no IP address") };
        let _client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
        assert!(socket.accept().await.is_ok());
    }
}
