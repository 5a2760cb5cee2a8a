//! The two sockets: who may connect, and what becomes of a connection.

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
/// Clients served at once; more wait.
const MOST_CLIENTS: usize = 1024;
/// After a failed accept (out of descriptors), wait this long for some to come back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds a socket that only its owner can use, in place of a stale one. The caller holds the daemon's lock, so whatever
/// lies there belongs to nobody.
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

/// Goes on with a socket that another daemon bound. Who asks the kernel for the other end of a connection gets our pid from
/// now on.
pub fn resume(socket: OwnedFd) -> io::Result<UnixListener> {
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// A listening socket, and those that take its place.
pub struct Acceptor {
    listener: UnixListener,
    anew: UnboundedReceiver<UnixListener>,
}

impl Acceptor {
    /// A door with this socket.
    #[must_use]
    pub fn new(listener: UnixListener, anew: UnboundedReceiver<UnixListener>) -> Acceptor {
        Acceptor { listener, anew }
    }

    async fn try_accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                Some(anew) = self.anew.recv() => self.listener = anew,
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
            }
        }
    }
}

/// Serves the RPC for ever. A connection that talks garbage ends; nobody else notices. Of the files we may open, so many
/// as `files`, all clients together get a quarter: the rest is for the apps.
pub async fn serve_rpc(mut door: Acceptor, service: Service, files: u64) {
    let most = usize::try_from(files / 4).unwrap_or(MOST_CLIENTS).min(MOST_CLIENTS);
    let room = Arc::new(Semaphore::new(most));
    loop {
        if room.available_permits() == 0 {
            tracing::warn!("{most} clients are connected, as many as are served at once: more wait until one leaves");
        }
        // Nobody closes it.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = accept(&mut door).await;
        let conversation = converse(stream, Service { peer, ..service.clone() });
        // Ends with its connection.
        tokio::spawn(async move {
            panics::on_its_own(conversation).await;
            drop(place);
        });
    }
}

/// Serves the event stream for ever.
pub async fn serve_events(mut door: Acceptor, god: mpsc::Sender<Command>) {
    loop {
        let (stream, _) = accept(&mut door).await;
        if god.send(Command::Subscribe(stream)).await.is_err() {
            return;
        }
    }
}

async fn converse(stream: UnixStream, service: Service) {
    let frames = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
    let transport = serde_transport::new(frames, JsonCodec::default());
    let requests = BaseChannel::with_defaults(transport).execute(service.serve());
    requests.for_each_concurrent(REQUESTS_AT_ONCE, |handle| handle).await;
}

/// The next connection of the owner or of root.
async fn accept(door: &mut Acceptor) -> (UnixStream, Peer) {
    let mut short = false;
    loop {
        match door.try_accept().await {
            Ok(stream) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == identity::uid() || peer.uid() == 0 => {
                    return (stream, Peer { uid: peer.uid(), pid: peer.pid().unwrap_or(0) });
                }
                Ok(peer) => tracing::warn!("a connection of user {} was refused", peer.uid()),
                Err(error) => tracing::warn!("a connection of an unknown user was refused: {error}"),
            },
            Err(error) => {
                if !short {
                    tracing::warn!("a client cannot be accepted and waits: {error}");
                }
                short = true;
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
