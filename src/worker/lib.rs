//! For web servers written in Rust: a server becomes a worker of a cluster without code for clustering.
//!
//! [`listener`] takes the place of a bind. Under `pmr start ./server -i 4` the connections come from the daemon, in
//! exact turn, by [pmr's own worker protocol](protocol); without pmr it is an ordinary bind. [`draining`] ends when the
//! worker is to finish.
//!
//! A client that keeps its connection alive loses no request then, if a response asks it to close the connection by the
//! header `Connection: close`. hyper and axum do not send that header when they shut down. They close idle connections,
//! although the next request may be on its way. So add the header while [`is_draining`], and pass [`drained`] to
//! `axum::serve(..).with_graceful_shutdown(..)`: see `examples/channel/axum.rs`.
//!
//! ```no_run
//! # async fn handle(_: pmr_worker::Stream) {}
//! # async fn serve() -> std::io::Result<()> {
//! let mut listener = pmr_worker::listener("127.0.0.1:3000").await?;
//! let mut draining = std::pin::pin!(pmr_worker::draining());
//! loop {
//!     tokio::select! {
//!         (stream, _peer) = listener.accept() => drop(tokio::spawn(handle(stream))),
//!         () = &mut draining => break,
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A process has one channel, so all calls must be made in one tokio runtime, with I/O and time enabled.

mod bind;
mod channel;
pub mod os;
pub mod protocol;
mod stream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use self::bind::Socket;
use self::channel::{Channel, ChannelListener};
use self::os::{packets, rights};
use self::protocol::VARIABLE;
pub use self::stream::Stream;

/// Pause before the next accept when the process has too many open files.
const SHORTAGE: Duration = Duration::from_millis(50);

/// The address of one end of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A path of a Unix socket. Empty for a client whose socket has no path.
    Path(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(out),
            Address::Path(path) => path.display().fmt(out),
        }
    }
}

/// Accepts connections, from the daemon or from a socket of its own.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    address: Address,
}

#[derive(Debug)]
enum Source {
    Channel(ChannelListener),
    Socket(Socket),
}

/// Listens on `address`: `127.0.0.1:3000`, `[::]:3000`, `:3000` for all addresses, or the absolute path of a Unix
/// socket. A worker of a cluster gets its share of the connections there from the daemon. Without pmr it binds.
///
/// # Errors
/// Those of a bind, made here or by the daemon; `InvalidInput` if the address cannot be parsed; `Unsupported` if the
/// daemon speaks other versions of the worker protocol.
pub async fn listener(address: &str) -> io::Result<Listener> {
    match inherited() {
        Some(channel) => listener_on(channel, address).await,
        None => {
            let (socket, address) = Socket::bind(address)?;
            Ok(Listener { source: Source::Socket(socket), address })
        }
    }
}

/// Ends when the worker is to finish its connections and exit: the daemon drains it, or SIGTERM or SIGINT has arrived.
pub async fn draining() {
    match inherited() {
        Some(channel) => by_signal_or(channel.draining()).await,
        None => by_signal_or(std::future::pending()).await,
    }
}

/// Ends as [`draining`] does, but gives clients a second to close their connections. What is open after that second is
/// idle. A signal ends it at once.
pub async fn drained() {
    match inherited() {
        Some(channel) => by_signal_or(channel.drained()).await,
        None => by_signal_or(std::future::pending()).await,
    }
}

/// True as soon as the daemon drains the worker. From then on responses should carry `Connection: close`.
#[must_use]
pub fn is_draining() -> bool {
    inherited().is_some_and(|channel| channel.is_draining_or_ended())
}

async fn by_signal_or(request: impl Future<Output = ()>) {
    let by_signal = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        () = request => {}
        () = by_signal => {}
    }
}

/// Reports to the daemon that the app is ready. An app with `wait_ready` counts as started from then on. Without pmr it
/// does nothing.
///
/// # Errors
/// If the channel fails.
pub async fn ready() -> io::Result<()> {
    match inherited() {
        Some(channel) => channel.ready().await,
        None => Ok(()),
    }
}

/// The channel to the daemon, if the daemon started this process with one. The first call takes the channel over and
/// must be made inside the runtime.
fn inherited() -> Option<&'static Arc<Channel>> {
    static CHANNEL: OnceLock<Option<Arc<Channel>>> = OnceLock::new();
    let open = || {
        let number = std::env::var(VARIABLE).ok()?.parse().ok()?;
        Channel::open(packets::claim(number).ok()?).ok()
    };
    CHANNEL.get_or_init(open).as_ref()
}

async fn listener_on(channel: &Arc<Channel>, address: &str) -> io::Result<Listener> {
    let (listener, address) = channel.listen(address).await?;
    Ok(Listener { source: Source::Channel(listener), address: parsed(&address)? })
}

fn parsed(address: &str) -> io::Result<Address> {
    if address.starts_with('/') {
        return Ok(Address::Path(address.into()));
    }
    let no_address = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{address}` is no address"));
    address.parse().map(Address::Ip).map_err(no_address)
}

impl Listener {
    /// Waits for the next connection, and returns it with the client's address. Waits for ever once the daemon is gone
    /// for good; [`draining`] ends then. Cancel safe: no connection is lost if the future is dropped.
    pub async fn accept(&mut self) -> (Stream, Address) {
        loop {
            let stream = match &mut self.source {
                Source::Channel(listener) => listener.accept().await,
                Source::Socket(socket) => socket.accept().await,
            };
            // A connection that its client has reset already has no peer address: the loop goes on with the next one.
            match stream.and_then(|stream| stream.peer().map(|peer| (stream, peer))) {
                Ok(connection) => return connection,
                Err(error) if rights::is_shortage(&error) => tokio::time::sleep(SHORTAGE).await,
                Err(_) => {}
            }
        }
    }

    /// The address it listens on, with the port that the kernel chose if port 0 was requested.
    ///
    /// # Errors
    /// Never. The return type is that of other listeners.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }
}

#[cfg(test)]
mod tests;
