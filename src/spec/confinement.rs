//! Limits, user and sandbox of an app's processes. Each limit applies to one process of the app with its children, as
//! `max_memory_restart` does: four instances may use four times as much together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Limits, user and sandbox. By default an app has the rights of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// Limit of memory in bytes, at which the kernel kills the process.
    pub memory: Option<u64>,
    /// Limit of processor time, in thousandths of one processor.
    pub cpu: Option<u32>,
    /// Limit of processes and threads.
    pub pids: Option<u32>,
    /// Limit of open files of each single process.
    pub nofile: Option<u32>,
    /// User, by name or number.
    pub user: Option<String>,
    /// Group, by name or number, if it is not the user's own.
    pub group: Option<String>,
    /// True if no program that it executes gains privileges, for example by a set-user-id bit.
    pub no_new_privs: bool,
    /// Absolute paths that it cannot change, including everything below them.
    pub read_only_paths: Vec<PathBuf>,
    /// True if it has its own `/tmp` and `/var/tmp`, empty at its start.
    pub private_tmp: bool,
}
