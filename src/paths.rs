//! The home (`PMR_HOME`, default `~/.pmr`) and the paths of the files in it.

use std::path::{Path, PathBuf};

/// The home of one daemon: all its sockets, state and logs. A different home is a different daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `root`, which must be absolute.
    #[must_use]
    pub fn new(root: PathBuf) -> Home {
        Home { root }
    }

    /// The folder itself, mode 0700.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Socket of the RPC, mode 0600.
    #[must_use]
    pub fn rpc_sock(&self) -> PathBuf {
        self.root.join("rpc.sock")
    }

    /// Socket of the event stream, mode 0600.
    #[must_use]
    pub fn pub_sock(&self) -> PathBuf {
        self.root.join("pub.sock")
    }

    /// Folder of the notify sockets, by which apps report to their daemon (`NOTIFY_SOCKET`).
    #[must_use]
    pub fn notify(&self) -> PathBuf {
        self.root.join("notify")
    }

    /// File with the pid of the daemon, which locks it as long as it lives.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("pmr.pid")
    }

    /// File that a client locks while it starts a daemon.
    #[must_use]
    pub fn spawn_lock(&self) -> PathBuf {
        self.root.join("spawn.lock")
    }

    /// The daemon's own log.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.root.join("pmr.log")
    }

    /// The saved list, which `save` writes, mode 0600.
    #[must_use]
    pub fn dump_file(&self) -> PathBuf {
        self.root.join("dump.json")
    }

    /// The saved list before the last `save`.
    #[must_use]
    pub fn dump_backup(&self) -> PathBuf {
        self.root.join("dump.json.bak")
    }

    /// The daemon's state as it changes, mode 0600.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The journal of the previous daemon, if its apps were not recovered.
    #[must_use]
    pub fn journal_before(&self) -> PathBuf {
        self.root.join("journal.before")
    }

    /// The history: one event a line, mode 0600. Older parts have a number behind the name.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.ndjson")
    }

    /// The settings, which `set` writes, mode 0600.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("settings.json")
    }

    /// The process list as the first builds wrote it when the daemon was stopped.
    #[must_use]
    pub fn last_state(&self) -> PathBuf {
        self.root.join("last.json")
    }

    /// Folder of the apps' logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Folder of the apps' pid files.
    #[must_use]
    pub fn pids(&self) -> PathBuf {
        self.root.join("pids")
    }

    /// Folder of the script that pmr preloads into Node workers.
    #[must_use]
    pub fn preload(&self) -> PathBuf {
        self.root.join("preload")
    }
}
