//! The listening socket at a Unix path. All workers of the app share it, since a path can have only one.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::persist::{KeptFd, StateStore};
use crate::cluster::waiting::{Arrivals, Shedder};
use crate::os::net::diag;
use crate::os::net::reuseport::BACKLOG;
use crate::os::net::socket::{Listening, SocketFile, SocketFileId};
use crate::protocol::ListenerInfo;
use crate::spec::QueueRule;

#[derive(Debug)]
pub(crate) struct SharedUnixListener {
    path: PathBuf,
    /// Its entry in the ledger. Dropped before the socket, so that the ledger never names a closed descriptor.
    _kept: KeptFd,
    socket: OwnedFd,
    /// The file at the path. Removed with the listener.
    file: Option<SocketFile>,
    /// Rejects connections that wait too long while no worker serves.
    pub(crate) shedder: Shedder,
}

/// A listener in the ledger's record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnixListenerRecord {
    path: PathBuf,
    #[serde(default)]
    file: Option<SocketFileId>,
    #[serde(default)]
    arrivals: Arrivals,
}

/// The name under which the socket is kept. Names have no spaces or line breaks, so those of the path are escaped.
fn name(store: &StateStore, path: &Path) -> String {
    let path = path.display().to_string().replace('%', "%25").replace(' ', "%20").replace('\n', "%0A");
    format!("door/{}{path}", store.app)
}

impl SharedUnixListener {
    /// Listens at the path with these permissions of the file. Replaces a socket file on which no process listens any
    /// more.
    pub(crate) fn open(path: &Path, mode: u32, store: &StateStore) -> io::Result<SharedUnixListener> {
        let (socket, file) = Listening::open_path(path, mode, BACKLOG)?.into_parts();
        // Blocking, as systemd passes them. A worker that changes this changes it for all workers.
        rustix::io::ioctl_fionbio(&socket, false)?;
        let kept = store.keep(name(store, path), &socket);
        Ok(SharedUnixListener { path: path.to_owned(), _kept: kept, socket, file, shedder: Shedder::default() })
    }

    /// The listener that the previous God opened; `None` if its socket is not in `files`.
    pub(crate) fn adopt(
        known: UnixListenerRecord,
        store: &StateStore,
        files: &mut HashMap<String, OwnedFd>,
    ) -> Option<SharedUnixListener> {
        let UnixListenerRecord { path, file, arrivals } = known;
        let socket = files.remove(&name(store, &path))?;
        let kept = store.keep(name(store, &path), &socket);
        Some(SharedUnixListener {
            path,
            _kept: kept,
            socket,
            file: file.map(SocketFile::adopt),
            shedder: Shedder::adopt(arrivals),
        })
    }

    pub(crate) fn record(&self) -> UnixListenerRecord {
        let file = self.file.as_ref().map(SocketFile::id).cloned();
        UnixListenerRecord { path: self.path.clone(), file, arrivals: self.shedder.arrivals().clone() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of its socket.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Rejects connections that wait too long from now on. `save` gets the arrival times that must be recorded.
    pub(crate) fn watch(&mut self, rule: QueueRule, save: impl Fn(Arrivals) + 'static) {
        self.shedder.start(&self.socket, rule, save);
    }

    /// How many connections wait to be accepted.
    pub(crate) fn waiting(&self) -> u32 {
        diag::waiting(&self.socket).unwrap_or(0)
    }

    pub(crate) fn info(&self, workers: u32) -> ListenerInfo {
        ListenerInfo {
            address: self.path.display().to_string(),
            mechanism: "one queue for all".to_owned(),
            workers,
            why: Some("a Unix path has one socket".to_owned()),
            waiting: self.waiting(),
            dealt: None,
        }
    }
}
