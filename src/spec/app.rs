//! [`AppSpec`]: everything that is known of an app before it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::confinement::Confinement;
use super::dependency::Dependencies;
use super::health::Health;
use super::on_reload_failure::OnReloadFailure;
use super::queue::QueueRule;
use super::rules::{Balance, Env, ExecMode, LogSpec, Program, Readiness, RestartRule, StopRule};
use super::sharing::Sharing;
use super::{interpreter, value};

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

    /// Takes `env` as the caller's environment, in place of the old one as a whole. What every app is given beneath its
    /// own settings is added here, so that a start and a later `--update-env` agree: for Python unbuffered output,
    /// without which nothing would reach the log until the buffer is full.
    pub fn set_base_env(&mut self, mut env: Env) {
        if interpreter::is_python_app(&self.program) {
            env.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
        }
        self.base_env = Arc::new(env);
    }
}

/// An app as tests want one: `/srv/app.js`, run once by node.
#[cfg(test)]
pub(crate) fn sample() -> AppSpec {
    let (script, interpreter) = ("/srv/app.js".into(), "node".to_owned());
    let program = Program::Script { script, interpreter, interpreter_args: Vec::new() };
    AppSpec::new("app", program, "/srv".into())
}
