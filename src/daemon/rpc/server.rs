//! The two sockets of the daemon, for RPC and for events: accepts connections of the owner and of root, and serves them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tarpc::serde_transport;
use tarpc::server::{BaseChannel, Channel};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::codec::LengthDelimitedCodec;

use super::super::panics;
use super::audit::Peer;
use super::command::Command;
use super::service::Service;
use crate::os::process::identity;
use crate::protocol::Daemon;
use crate::protocol::wire::{JsonCodec, MAX_FRAME};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Requests of one client that may be under way at once.
const REQUESTS_AT_ONCE: usize = 32;
/// RPC clients served at once; more wait to be accepted.
const MAX_CLIENTS: usize = 1024;
/// After a failed accept (out of descriptors), wait this long for some to come back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds a socket that only its owner can use, in place of a stale one. The caller holds the daemon's lock, so no other
/// daemon uses a socket that is there already.
pub fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Continues with a socket that an earlier God bound. `listen` is called again, so that `SO_PEERCRED` of a client that
/// connects from now on names this process.
pub fn resume(socket: OwnedFd) -> io::Result<UnixListener> {
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Accepts connections from a listening socket. When the socket's file has been deleted, a new socket arrives, which
/// replaces it.
pub struct Acceptor {
    listener: UnixListener,
    replacements: UnboundedReceiver<UnixListener>,
}

impl Acceptor {
    /// An acceptor that begins with `listener`.
    #[must_use]
    pub fn new(listener: UnixListener, replacements: UnboundedReceiver<UnixListener>) -> Acceptor {
        Acceptor { listener, replacements }
    }

    async fn try_accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                Some(listener) = self.replacements.recv() => self.listener = listener,
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
            }
        }
    }
}

/// Serves the RPC until the runtime ends. A client that sends invalid data loses its connection; other clients are not
/// affected. All clients together get a quarter of the `files` that this process may open: the rest is for the apps.
pub async fn serve_rpc(mut acceptor: Acceptor, service: Service, files: u64) {
    let most = usize::try_from(files / 4).unwrap_or(MAX_CLIENTS).min(MAX_CLIENTS);
    let permits = Arc::new(Semaphore::new(most));
    loop {
        if permits.available_permits() == 0 {
            tracing::warn!(
                "{most} clients are connected, the most that are served at once: more wait until one leaves"
            );
        }
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = accept(&mut acceptor).await;
        let serving = serve_client(stream, Service { peer, ..service.clone() });
        // Ends with its connection.
        tokio::spawn(async move {
            panics::isolate_client(serving).await;
            drop(permit);
        });
    }
}

/// Passes each subscriber of events to God, until God has ended.
pub async fn serve_events(mut acceptor: Acceptor, god: mpsc::Sender<Command>) {
    loop {
        let (stream, _) = accept(&mut acceptor).await;
        if god.send(Command::Subscribe(stream)).await.is_err() {
            return;
        }
    }
}

async fn serve_client(stream: UnixStream, service: Service) {
    let frames = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
    let transport = serde_transport::new(frames, JsonCodec::default());
    let requests = BaseChannel::with_defaults(transport).execute(service.serve());
    requests.for_each_concurrent(REQUESTS_AT_ONCE, |handle| handle).await;
}

/// The next connection of the owner or of root. Connections of other users are closed.
async fn accept(acceptor: &mut Acceptor) -> (UnixStream, Peer) {
    let mut warned = false;
    loop {
        match acceptor.try_accept().await {
            Ok(stream) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == identity::uid() || peer.uid() == 0 => {
                    return (stream, Peer { uid: peer.uid(), pid: peer.pid().unwrap_or(0) });
                }
                Ok(peer) => tracing::warn!("a connection of user {} was refused", peer.uid()),
                Err(error) => tracing::warn!("a connection of an unknown user was refused: {error}"),
            },
            Err(error) => {
                if !warned {
                    tracing::warn!("a client cannot be accepted and waits: {error}");
                }
                warned = true;
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
