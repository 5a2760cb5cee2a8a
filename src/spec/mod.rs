//! What an app is, as its owner declared it. Pure data: nothing here touches a file, a clock or a process.
//!
//! An [`AppSpec`] is complete and checked: paths are absolute, the interpreter is chosen, `max` has become a number.
//! It is made once at the edge (the command line resolves flags and config files into it), crosses the socket, is
//! written to disk, and is trusted from then on.
//!
//! Which keys exist, how they are spelled and what values they take stands in one table, [`keys`]; the ecosystem
//! file, the command line and a restart with changed options all go through it.

pub mod activation;
pub mod confinement;
pub mod dependency;
pub mod ecosystem;
pub mod health;
pub mod interpreter;
pub mod keys;
pub mod log_paths;
pub mod mechanism;
pub mod on_reload_failure;
pub mod queue;
mod reservations;
pub mod sharing;
pub mod signal;
pub mod target;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use activation::Activation;
pub use confinement::Confinement;
pub use dependency::Dependencies;
pub use health::Health;
pub use mechanism::Mechanism;
pub use on_reload_failure::OnReloadFailure;
pub use queue::{QueueRule, Shed};
pub use sharing::{Share, Sharing};

/// Environment variables, sorted so that output and dumps are stable.
pub type Env = BTreeMap<String, String>;

/// Name of the variable that holds the instance number, unless the owner chose another.
pub const DEFAULT_INSTANCE_VAR: &str = "NODE_APP_INSTANCE";

/// The namespace of an app that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An app: one program, run as one or more processes.
///
/// Names are unique within a namespace; the pair is what `start` compares to tell a new app from a known one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// What `list` shows and selectors match. Never empty.
    pub name: String,
    /// Group of apps, [`DEFAULT_NAMESPACE`] unless set.
    pub namespace: String,
    /// What is executed.
    pub program: Program,
    /// Arguments of the program itself (what stood after `--`).
    #[serde(default)]
    pub args: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// Whether the processes share ports.
    pub mode: ExecMode,
    /// How many processes are wanted, at least 1.
    pub instances: u32,
    /// How connections reach the workers of a cluster.
    #[serde(default)]
    pub balance: Balance,
    /// Which ports the workers of a cluster share.
    #[serde(default)]
    pub sharing: Sharing,
    /// What becomes of connections that no worker is ready for.
    #[serde(default)]
    pub queue: QueueRule,
    /// Environment of the caller at the last `start` or `--update-env`. Apps started from one shell share it.
    #[serde(default)]
    pub base_env: Arc<Env>,
    /// Variables the owner declared: env files, `env`, `env_NAME`. They win over `base_env`.
    #[serde(default)]
    pub env: Env,
    /// Name of the variable that holds the instance number.
    pub instance_var: String,
    /// When and how often to start again.
    pub restart: RestartRule,
    /// How a process is brought to an end.
    pub stop: StopRule,
    /// What makes a process ready.
    pub readiness: Readiness,
    /// A process that has not said `WATCHDOG=1` for so long has failed.
    #[serde(with = "value::millis_option", default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Duration>,
    /// The sockets opened for it, and when none of its processes need run.
    #[serde(default, skip_serializing_if = "Activation::is_unset")]
    pub activation: Activation,
    /// How its health is checked, if it is. With a check, a process is ready when it has passed for the first time, and
    /// nothing else makes it so: neither that it listens nor that it says so.
    #[serde(default)]
    pub health: Option<Health>,
    /// The apps it needs: it is started after them, and stopped before them.
    #[serde(default, skip_serializing_if = "Dependencies::is_empty")]
    pub depends_on: Dependencies,
    /// What becomes of a reload whose successors fail.
    #[serde(default)]
    pub on_reload_failure: OnReloadFailure,
    /// What a process may use and touch, and who it is.
    #[serde(default)]
    pub confinement: Confinement,
    /// Where its output goes.
    pub logs: LogSpec,
    /// False: registered as stopped, started by hand.
    pub autostart: bool,
    /// Version of the app itself (its package.json), for display.
    #[serde(default)]
    pub version: Option<String>,
}

impl AppSpec {
    /// Takes `env` as the caller's environment, in place of the old one as a whole. What every app is given beneath its
    /// own settings is added here, so that a start and a later `--update-env` agree: for Python unbuffered output,
    /// without which nothing would reach the log until the buffer is full.
    pub fn set_base_env(&mut self, mut env: Env) {
        if self.program.is_python() {
            env.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
        }
        self.base_env = Arc::new(env);
    }

    /// True if a worker that listens may not be ready: it shall get no connection before it has said so, or passed. Who is
    /// asked by the port that all share has to get connections there before.
    #[must_use]
    pub fn listens_before_ready(&self) -> bool {
        use health::Probe::{Http, Log};
        let past_the_port = |health: &Health| matches!(health.probe, Http { address: None, .. } | Log(_));
        self.mode == ExecMode::Cluster && (self.readiness.wait_ready || self.health.as_ref().is_some_and(past_the_port))
    }

    /// True if a worker may be kept without connections before it is ready: always where it
    /// [listens before that](AppSpec::listens_before_ready), and wherever others serve meanwhile if it is to pass a check.
    #[must_use]
    pub fn may_be_withheld(&self) -> bool {
        self.listens_before_ready() || (self.mode == ExecMode::Cluster && self.health.is_some())
    }

    /// What of its settings cannot hold together, as a key and a sentence.
    #[must_use]
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let health_or_order = || self.health_contradiction().or_else(|| self.dependency_contradiction());
        let sharing = || self.sharing_contradiction();
        self.activation_contradiction().or_else(sharing).or_else(health_or_order)
    }
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `interpreter interpreter_args… script args…`
    Script {
        /// Absolute path of the script; symbolic links are kept and followed anew at each start.
        script: PathBuf,
        /// Absolute path or a name looked up in the app's own PATH at each start.
        interpreter: String,
        /// Arguments that stand before the script.
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

impl Program {
    fn is_python(&self) -> bool {
        match self {
            Program::Script { interpreter, .. } => interpreter::is_python(interpreter),
            Program::Binary { .. } | Program::CommandLine { .. } => false,
        }
    }
}

/// Whether the processes of an app share their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecMode {
    /// Independent processes.
    Fork,
    /// Workers that share what they listen on, through the supervisor.
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
    /// The supervisor accepts and deals connections out in turn: even.
    #[default]
    RoundRobin,
    /// All connections of one client address go to the worker of one instance number, also after a reload; when the
    /// number of workers changes, few clients change theirs.
    Sticky,
    /// To the worker with the fewest open connections: in Node, and on pmr's own channel. The kernel deals to others in
    /// turn.
    Least,
    /// Workers accept from one shared listener themselves: fastest, less even.
    Shared,
}

impl Balance {
    /// How the supervisor deals, in words. Listeners opened before a change to `shared` are still dealt from in turn.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Balance::RoundRobin | Balance::Shared => "round robin",
            Balance::Sticky => "by client address",
            Balance::Least => "fewest open first",
        }
    }
}

/// When and how often a process is started again after it ended by itself.
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

/// How a process is brought to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRule {
    /// Time between the stop signal and SIGKILL.
    #[serde(with = "value::millis")]
    pub kill_timeout: Duration,
    /// Longest time a worker that leaves a living cluster may take to finish what it has, before the stop signal.
    #[serde(with = "value::millis")]
    pub drain_timeout: Duration,
    /// Say `shutdown` on the IPC channel instead of sending a signal.
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
    /// Ready only when the app says so: `ready` on its IPC channel, or `READY=1` to `NOTIFY_SOCKET`.
    pub wait_ready: bool,
    /// How long a start waits for readiness. `None`: 3 s at a start; 30 s at a reload, where giving up is costly.
    #[serde(with = "value::millis_option", default)]
    pub listen_timeout: Option<Duration>,
}

/// Where output goes. Paths are made by [`log_paths`], since they may carry the process id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Standard output.
    pub out: LogTarget,
    /// Standard error.
    pub err: LogTarget,
    /// One file for all instances: no `-ID` in the name.
    pub merge: bool,
}

/// Where one stream goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// `logs/NAME-out.log` or `logs/NAME-error.log` under the home.
    #[default]
    Default,
    /// A file of the owner's choice, absolute.
    File(PathBuf),
    /// Nowhere.
    Discard,
}

impl AppSpec {
    /// One process of this program, with all else as it is where its owner says nothing.
    #[must_use]
    pub fn new(name: &str, program: Program, cwd: PathBuf) -> AppSpec {
        AppSpec {
            name: name.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            program,
            args: Vec::new(),
            cwd,
            mode: ExecMode::Fork,
            instances: 1,
            balance: Balance::default(),
            sharing: Sharing::default(),
            queue: QueueRule::default(),
            base_env: Arc::default(),
            env: Env::new(),
            instance_var: DEFAULT_INSTANCE_VAR.to_owned(),
            restart: RestartRule::default(),
            stop: StopRule::default(),
            readiness: Readiness::default(),
            watchdog: None,
            activation: Activation::default(),
            health: None,
            depends_on: Dependencies::new(),
            on_reload_failure: OnReloadFailure::default(),
            confinement: Confinement::default(),
            logs: LogSpec::default(),
            autostart: true,
            version: None,
        }
    }
}

/// An app as tests want one: `/srv/app.js`, run once by node.
#[cfg(test)]
pub(crate) fn sample() -> AppSpec {
    let (script, interpreter) = ("/srv/app.js".into(), "node".to_owned());
    let program = Program::Script { script, interpreter, interpreter_args: Vec::new() };
    AppSpec::new("app", program, "/srv".into())
}
