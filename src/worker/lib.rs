//! For web servers written in Rust: workers of a cluster without a line about clustering.
//!
//! [`listener`] is used in place of a bind. Under `pmr start ./server -i 4` the connections come from the daemon, in exact
//! turn, by the [protocol of its own](protocol); anywhere else it is an ordinary bind. [`draining`] tells
//! when to finish.
//!
//! No client that keeps its connection alive need lose a request then, if it is told to leave by the header
//! `Connection: close` of a response. hyper and axum do not do that when they shut down, but end connections that are idle,
//! though the next request may be on its way. So add that header while [`is_draining`], and give [`drained`] to
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
//! A process has one channel, so all this must happen in one tokio runtime, with I/O and time enabled.

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

/// Pause when there are too many open files.
const SHORTAGE: Duration = Duration::from_millis(50);

/// The address of a socket, of either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix path; empty for a client, which has none.
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

/// Where connections come from.
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

/// Listens on `address`: `127.0.0.1:3000`, `[::]:3000`, `:3000` for all addresses, or the absolute path of a Unix socket.
/// As a worker of a cluster it gets its share of the connections there; outside pmr it binds.
///
/// # Errors
/// Those of a bind, whoever does it; `InvalidInput` if the address is none; `Unsupported` if the daemon speaks other
/// versions of the worker protocol.
pub async fn listener(address: &str) -> io::Result<Listener> {
    match inherited() {
        Some(channel) => listener_on(channel, address).await,
        None => {
            let (socket, address) = Socket::bind(address)?;
            Ok(Listener { source: Source::Socket(socket), address })
        }
    }
}

/// Ends when the worker shall finish what it has and leave: the daemon wants it to, or SIGTERM or SIGINT came.
pub async fn draining() {
    match inherited() {
        Some(channel) => by_signal_or(channel.draining()).await,
        None => by_signal_or(std::future::pending()).await,
    }
}

/// The same, after clients had a second to leave by themselves, unless a signal came: what is open by then is idle.
pub async fn drained() {
    match inherited() {
        Some(channel) => by_signal_or(channel.drained()).await,
        None => by_signal_or(std::future::pending()).await,
    }
}

/// True as soon as the daemon wants the worker to finish: from now on responses should carry `Connection: close`.
#[must_use]
pub fn is_draining() -> bool {
    inherited().is_some_and(|channel| channel.is_to_leave())
}

async fn by_signal_or(told: impl Future<Output = ()>) {
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
        () = told => {}
        () = by_signal => {}
    }
}

/// Tells the daemon that the app is ready, which it waits for under `wait_ready`. Outside pmr it does nothing.
///
/// # Errors
/// If the channel fails.
pub async fn ready() -> io::Result<()> {
    match inherited() {
        Some(channel) => channel.ready().await,
        None => Ok(()),
    }
}

/// The channel the daemon started us with, if it did. Taken over by the first call, which must be inside the runtime.
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
    /// The next connection, and where it comes from. Waits for as long as it takes, and for ever once the daemon is
    /// gone for good, which [`draining`] tells. May be dropped while it waits: no connection is lost.
    pub async fn accept(&mut self) -> (Stream, Address) {
        loop {
            let stream = match &mut self.source {
                Source::Channel(listener) => listener.accept().await,
                Source::Socket(socket) => socket.accept().await,
            };
            // A client that has hung up already is no connection.
            match stream.and_then(|stream| stream.peer().map(|peer| (stream, peer))) {
                Ok(connection) => return connection,
                Err(error) if rights::is_shortage(&error) => tokio::time::sleep(SHORTAGE).await,
                Err(_) => {}
            }
        }
    }

    /// Where it listens, with the port that was chosen.
    ///
    /// # Errors
    /// None; so that it is used as any listener is.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }
}

#[cfg(test)]
mod tests;
