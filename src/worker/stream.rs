//! A connection that the app accepted: TCP or Unix, counted while it is open.

use std::io::{self, IoSlice};
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;
use super::channel::OpenConnection;

/// A connection to a client.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    /// Counts the connection as open, if it came from the daemon.
    open: Option<OpenConnection>,
}

#[derive(Debug)]
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes over a connected socket that came from the daemon. Must be called inside the runtime.
    pub(super) fn of_channel(socket: OwnedFd, open: OpenConnection) -> io::Result<Stream> {
        let wire = if socket_domain(&socket)? == AddressFamily::UNIX {
            let stream = StdUnixStream::from(socket);
            stream.set_nonblocking(true)?;
            Wire::Unix(UnixStream::from_std(stream)?)
        } else {
            let stream = StdTcpStream::from(socket);
            stream.set_nonblocking(true)?;
            Wire::Tcp(TcpStream::from_std(stream)?)
        };
        Ok(Stream { wire, open: Some(open) })
    }

    /// The client's address; an empty path if it has none.
    ///
    /// # Errors
    /// If the client has closed the connection.
    pub fn peer(&self) -> io::Result<Address> {
        match &self.wire {
            Wire::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            Wire::Unix(stream) => {
                let peer = stream.peer_addr()?;
                Ok(Address::Path(peer.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }

    /// Sets whether small pieces are sent at once (`TCP_NODELAY`). A Unix socket always sends them at once.
    ///
    /// # Errors
    /// If the client has closed the connection.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.wire {
            Wire::Tcp(stream) => stream.set_nodelay(nodelay),
            Wire::Unix(_) => Ok(()),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream { wire: Wire::Tcp(stream), open: None }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream { wire: Wire::Unix(stream), open: None }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Some(open) = this.open.as_mut().filter(|_| buffer.filled().len() > before) {
            open.has_sent();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Wire::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Wire::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
