//! A Unix path that an app listens on: one socket for all its workers, since two cannot be at one path.

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
    /// Dropped before the socket.
    _kept: KeptFd,
    socket: OwnedFd,
    /// Removed with the door.
    file: Option<SocketFile>,
    /// Turns away who waits too long while no worker serves.
    pub(crate) shedder: Shedder,
}

/// What is written down of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnixListenerRecord {
    path: PathBuf,
    #[serde(default)]
    file: Option<SocketFileId>,
    #[serde(default)]
    arrivals: Arrivals,
}

/// A name has no spaces and no line breaks, which a path may have.
fn name(store: &StateStore, path: &Path) -> String {
    let path = path.display().to_string().replace('%', "%25").replace(' ', "%20").replace('\n', "%0A");
    format!("door/{}{path}", store.app)
}

impl SharedUnixListener {
    /// Listens there, in the place of a file that somebody left who is gone.
    pub(crate) fn open(path: &Path, mode: u32, store: &StateStore) -> io::Result<SharedUnixListener> {
        let (socket, file) = Listening::open_path(path, mode, BACKLOG)?.into_parts();
        // As systemd hands them over. A worker that changes that changes it for all.
        rustix::io::ioctl_fionbio(&socket, false)?;
        let kept = store.keep(name(store, path), &socket);
        Ok(SharedUnixListener { path: path.to_owned(), _kept: kept, socket, file, shedder: Shedder::default() })
    }

    /// What another God opened, if it was kept.
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

    pub(crate) fn known(&self) -> UnixListenerRecord {
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

    /// Turns away who waits too long from now on, and tells `keep` what is to be written down.
    pub(crate) fn watch(&mut self, rule: QueueRule, keep: impl Fn(Arrivals) + 'static) {
        self.shedder.start(&self.socket, rule, keep);
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
