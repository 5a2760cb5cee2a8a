//! The process of the command line, as far as apps depend on it: directory, environment, number of processors.

use std::path::{Path, PathBuf};

use super::input_error::InputError;
use super::path;
use crate::spec::Env;

/// The context of the command: the base of relative paths, and the environment that apps inherit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The current directory, absolute.
    pub cwd: PathBuf,
    /// The user's environment without variables that belong to the calling process alone.
    pub env: Env,
    /// Number of processors, at least 1.
    pub cpus: u32,
}

impl Caller {
    /// The context of this process. Fails if the current directory no longer exists.
    pub fn current() -> Result<Caller, InputError> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let all: Env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let cwd = std::env::current_dir()
            .map_err(|error| InputError::new(format!("the current directory cannot be found: {error}")))?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Caller {
            cwd: path::logical(cwd, all.get("PWD")),
            env: base_env(all),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.env.get("HOME").map(Path::new)
    }
}

/// Variables by which a supervisor communicates with one process: useless to any other, and harmful to a process that
/// uses them.
const OF_ONE_PROCESS: &[&str] = &[
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "PMR_CHANNEL_FD",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "PMR_CHECK",
    "PMR_PID",
];

/// Variables that identify the app of pmr or PM2 that a process belongs to.
const OF_A_MANAGED_APP: &[&str] = &[
    "pm_id",
    "name",
    "namespace",
    "status",
    "exec_mode",
    "exec_interpreter",
    "instances",
    "instance_var",
    "NODE_APP_INSTANCE",
    "pm_exec_path",
    "pm_cwd",
    "pm_out_log_path",
    "pm_err_log_path",
    "pm_pid_path",
    "autorestart",
    "autostart",
    "automation",
    "pmx",
    "treekill",
    "vizion",
    "vizion_running",
    "watch",
    "windowsHide",
    "username",
    "kill_retry_time",
    "km_link",
    "merge_logs",
    "created_at",
    "pm_uptime",
    "restart_time",
    "unstable_restarts",
    "unique_id",
    "PM2_USAGE",
    "node_args",
    "axm_actions",
    "axm_monitor",
    "axm_options",
    "axm_dynamic",
];

/// The environment that apps inherit from a caller: without variables that belong to the caller's own process, if it is
/// an app of pmr or PM2 itself.
#[must_use]
pub fn base_env(mut env: Env) -> Env {
    for name in OF_ONE_PROCESS {
        env.remove(*name);
    }
    if env.contains_key("pm_id") {
        if let Some(renamed) = env.remove("instance_var") {
            env.remove(&renamed);
        }
        for name in OF_A_MANAGED_APP {
            env.remove(*name);
        }
    }
    env
}
