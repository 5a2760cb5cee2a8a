//! What an app's processes may use, who they are, and what they can touch. Each limit holds for one process of the app
//! with all it starts, as `max_memory_restart` does: four instances may use four times as much together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// See the module. By default an app is as free as the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// Bytes of memory, at which the kernel kills.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one processor.
    pub cpu: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Open files of each single process.
    pub nofile: Option<u32>,
    /// Whom it runs as: a user's name or number.
    pub user: Option<String>,
    /// With which group, by name or number, if not the user's own.
    pub group: Option<String>,
    /// True if nothing it executes gains privileges, by a set-user-id bit for one.
    pub no_new_privs: bool,
    /// Absolute paths that it cannot change, with all beneath.
    pub read_only_paths: Vec<PathBuf>,
    /// True if `/tmp` and `/var/tmp` are its own, empty at its start.
    pub private_tmp: bool,
}
