//! The basic rules in an app's settings: the program, restarts, stops, logs. They depend on nothing else of the spec,
//! so every other file of it can use them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// Environment variables, sorted so that output and saved lists are stable.
pub type Env = BTreeMap<String, String>;

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `interpreter interpreter_args… script args…`
    Script {
        /// Absolute path of the script; symbolic links are kept and followed at each start.
        script: PathBuf,
        /// Absolute path or a name looked up in the app's own PATH at each start.
        interpreter: String,
        /// Arguments before the script.
        #[serde(default)]
        interpreter_args: Vec<String>,
    },
    /// `binary args…`, executed directly.
    Binary {
        /// Absolute path.
        path: PathBuf,
    },
    /// A command line the user wrote, run as `shell -c line`.
    CommandLine {
        /// The line as written.
        line: String,
        /// Absolute path of the shell.
        shell: PathBuf,
    },
}

/// Whether the processes of an app share their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecMode {
    /// Independent processes.
    Fork,
    /// Workers that share their listen addresses, through the supervisor.
    Cluster,
}

impl ExecMode {
    /// The word in the `mode` column: `fork` or `cluster`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ExecMode::Fork => "fork",
            ExecMode::Cluster => "cluster",
        }
    }
}

/// How connections reach the workers of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The daemon accepts connections and distributes them in turn.
    #[default]
    RoundRobin,
    /// All connections of one client address go to the worker with one instance number, also after a reload. When the
    /// number of workers changes, few clients get another worker.
    Sticky,
    /// To the worker with the fewest open connections: in Node, and on pmr's own channel. For other programs the kernel
    /// distributes connections in turn.
    Least,
    /// Workers accept from one shared listener themselves: fastest, less even.
    Shared,
}

impl Balance {
    /// The policy in words. Listeners opened before a change to `shared` still distribute connections in turn.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Balance::RoundRobin | Balance::Shared => "round robin",
            Balance::Sticky => "by client address",
            Balance::Least => "fewest open first",
        }
    }
}

/// When and how often a process is restarted after it ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRule {
    /// False: an exit is final.
    pub autorestart: bool,
    /// This many unstable exits within `min_uptime × max_restarts` end in `errored`.
    pub max_restarts: u32,
    /// An exit sooner than this after the start is unstable.
    #[serde(with = "value::millis")]
    pub min_uptime: Duration,
    /// Fixed wait before a restart.
    #[serde(with = "value::millis")]
    pub delay: Duration,
    /// First wait of the exponential backoff; grows by half each time up to 15 s. Wins over `delay`.
    #[serde(with = "value::millis_option", default)]
    pub backoff: Option<Duration>,
    /// Exit codes after which the process stays down.
    #[serde(default)]
    pub stop_exit_codes: Vec<i32>,
    /// Resident memory of the process tree, in bytes, above which it is replaced.
    #[serde(default)]
    pub max_memory: Option<u64>,
}

impl Default for RestartRule {
    fn default() -> RestartRule {
        RestartRule {
            autorestart: true,
            max_restarts: 16,
            min_uptime: Duration::from_secs(1),
            delay: Duration::ZERO,
            backoff: None,
            stop_exit_codes: Vec::new(),
            max_memory: None,
        }
    }
}

/// How a process is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRule {
    /// Time between the stop signal and SIGKILL.
    #[serde(with = "value::millis")]
    pub kill_timeout: Duration,
    /// Longest time that a worker of a running cluster may take to finish its requests, before the stop signal.
    #[serde(with = "value::millis")]
    pub drain_timeout: Duration,
    /// Send `shutdown` on the IPC channel instead of a signal.
    pub with_message: bool,
    /// Signal the whole process tree rather than the main process alone. SIGKILL always goes to the whole tree.
    pub tree: bool,
}

impl Default for StopRule {
    fn default() -> StopRule {
        StopRule {
            kill_timeout: Duration::from_millis(1600),
            drain_timeout: Duration::from_secs(10),
            with_message: false,
            tree: true,
        }
    }
}

/// What makes a process ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Ready only when the app reports it: `ready` on its IPC channel, or `READY=1` to `NOTIFY_SOCKET`.
    pub wait_ready: bool,
    /// How long a start waits for readiness. `None`: 3 s at a start; 30 s at a reload, where giving up is costly.
    #[serde(with = "value::millis_option", default)]
    pub listen_timeout: Option<Duration>,
}

/// The targets of output. Paths are made by [`super::log_paths`], because they may contain the process id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Standard output.
    pub out: LogTarget,
    /// Standard error.
    pub err: LogTarget,
    /// One file for all instances: no `-ID` in the name.
    pub merge: bool,
}

/// The target of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// `logs/NAME-out.log` or `logs/NAME-error.log` under the home.
    #[default]
    Default,
    /// A configured file, absolute.
    File(PathBuf),
    /// The output is discarded.
    Discard,
}
