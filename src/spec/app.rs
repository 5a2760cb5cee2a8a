//! [`AppSpec`]: all settings of an app.

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

/// Default name of the variable with the instance number.
pub const DEFAULT_INSTANCE_VAR: &str = "NODE_APP_INSTANCE";

/// The default namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An app: one program, run as one or more processes.
///
/// Names are unique within a namespace. `start` compares the pair to find out whether an app is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// Name in `list` and in selectors. Never empty.
    pub name: String,
    /// Group of apps, [`DEFAULT_NAMESPACE`] unless set.
    pub namespace: String,
    /// What is executed.
    pub program: Program,
    /// Arguments of the program itself (those after `--`).
    #[serde(default)]
    pub args: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// Whether the processes share ports.
    pub mode: ExecMode,
    /// Number of processes, at least 1.
    pub instances: u32,
    /// How connections reach the workers of a cluster.
    #[serde(default)]
    pub balance: Balance,
    /// Which ports the workers of a cluster share.
    #[serde(default)]
    pub sharing: Sharing,
    /// Rules for connections that wait for a worker.
    #[serde(default)]
    pub queue: QueueRule,
    /// Environment of the caller at the last `start` or `--update-env`. Apps started from one shell share it.
    #[serde(default)]
    pub base_env: Arc<Env>,
    /// Declared variables: env files, `env`, `env_NAME`. They win over `base_env`.
    #[serde(default)]
    pub env: Env,
    /// Name of the variable that holds the instance number.
    pub instance_var: String,
    /// When and how often a process is restarted.
    pub restart: RestartRule,
    /// How a process is stopped.
    pub stop: StopRule,
    /// What makes a process ready.
    pub readiness: Readiness,
    /// Time without `WATCHDOG=1` after which a process counts as hung.
    #[serde(with = "value::millis_option", default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Duration>,
    /// The sockets that pmr opens for the app, and when its processes are stopped as idle.
    #[serde(default, skip_serializing_if = "Activation::is_unset")]
    pub activation: Activation,
    /// The health check. With a check, a process is ready when it has passed for the first time; that it listens or
    /// reports `ready` has no effect.
    #[serde(default)]
    pub health: Option<Health>,
    /// The apps it depends on: it is started after them, and stopped before them.
    #[serde(default, skip_serializing_if = "Dependencies::is_empty")]
    pub depends_on: Dependencies,
    /// What a reload does if successors fail.
    #[serde(default)]
    pub on_reload_failure: OnReloadFailure,
    /// Limits, user and sandbox of a process.
    #[serde(default)]
    pub confinement: Confinement,
    /// Where its output goes.
    pub logs: LogSpec,
    /// False: the app is added to the list as stopped.
    pub autostart: bool,
    /// Version of the app itself (its package.json), for display.
    #[serde(default)]
    pub version: Option<String>,
}

impl AppSpec {
    /// An app with one process of this program; all other settings have their defaults.
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

    /// Replaces the caller's environment by `env`. Also adds variables that every app gets unless it sets them, so that
    /// a start and a later `--update-env` agree: unbuffered output for Python, whose output would otherwise reach the
    /// log only when the buffer is full.
    pub fn set_base_env(&mut self, mut env: Env) {
        if interpreter::is_python_app(&self.program) {
            env.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
        }
        self.base_env = Arc::new(env);
    }
}

/// An app for tests: `/srv/app.js`, run once by node.
#[cfg(test)]
pub(crate) fn sample() -> AppSpec {
    let (script, interpreter) = ("/srv/app.js".into(), "node".to_owned());
    let program = Program::Script { script, interpreter, interpreter_args: Vec::new() };
    AppSpec::new("app", program, "/srv".into())
}
