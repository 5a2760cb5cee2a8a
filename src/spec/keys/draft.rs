//! The settings of one app before they are resolved.

use std::path::PathBuf;
use std::time::Duration;

use super::read::Instances;
use crate::spec::{
    Activation, AppSpec, Balance, Confinement, Dependencies, Env, ExecMode, Health, LogTarget, OnReloadFailure,
    Program, QueueRule, Readiness, RestartRule, Sharing, StopRule, interpreter, log_paths,
};

/// The settings of one app: from its config file, overridden by the command line.
///
/// Nothing is resolved yet: paths are as written and may not exist. Settings that need no resolving have their defaults
/// from the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The script, program or command line.
    pub script: Option<String>,
    /// The name; without it, it is derived from the script.
    pub name: Option<String>,
    /// The group of apps.
    pub namespace: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// Arguments of the app.
    pub args: Option<Vec<String>>,
    /// The interpreter; `none` executes the script itself.
    pub interpreter: Option<String>,
    /// Arguments of the interpreter.
    pub interpreter_args: Option<Vec<String>>,
    /// Number of processes.
    pub instances: Option<Instances>,
    /// Fork or cluster.
    pub mode: Option<ExecMode>,
    /// How connections reach the workers.
    pub balance: Balance,
    /// Which ports the workers share.
    pub sharing: Sharing,
    /// Rules for connections that wait for a worker.
    pub queue: QueueRule,
    /// Declared variables, `env_NAME` already merged over `env`.
    pub env: Env,
    /// Files of further variables; later files win over earlier ones, and `env` over all.
    pub env_files: Vec<String>,
    /// Name of the variable that holds the instance number.
    pub instance_var: String,
    /// When a process is restarted.
    pub restart: RestartRule,
    /// How a process is stopped.
    pub stop: StopRule,
    /// What makes a process ready.
    pub readiness: Readiness,
    /// Time without `WATCHDOG=1` after which a process counts as hung.
    pub watchdog: Option<Duration>,
    /// The sockets that pmr opens for the app, and when its processes are stopped as idle.
    pub activation: Activation,
    /// The health check.
    pub health: Option<Health>,
    /// The apps it depends on.
    pub depends_on: Dependencies,
    /// What a reload does if successors fail.
    pub on_reload_failure: OnReloadFailure,
    /// Limits, user and sandbox of a process.
    pub confinement: Confinement,
    /// Where standard output goes.
    pub out: LogTarget,
    /// Where standard error goes.
    pub err: LogTarget,
    /// One log file for all instances.
    pub merge_logs: Option<bool>,
    /// False: the app is added to the list as stopped.
    pub autostart: bool,
}

impl Default for Draft {
    /// Settings with a default in [`AppSpec::new`] have the same default here.
    fn default() -> Draft {
        let app = AppSpec::new("", Program::Binary { path: PathBuf::new() }, PathBuf::new());
        Draft {
            script: None,
            name: None,
            namespace: None,
            cwd: None,
            args: None,
            interpreter: None,
            interpreter_args: None,
            instances: None,
            mode: None,
            balance: app.balance,
            sharing: app.sharing,
            queue: app.queue,
            env: app.env,
            env_files: Vec::new(),
            instance_var: app.instance_var,
            restart: app.restart,
            stop: app.stop,
            readiness: app.readiness,
            watchdog: app.watchdog,
            activation: app.activation,
            health: app.health,
            depends_on: app.depends_on,
            on_reload_failure: app.on_reload_failure,
            confinement: app.confinement,
            out: app.logs.out,
            err: app.logs.err,
            merge_logs: None,
            autostart: app.autostart,
        }
    }
}

impl Draft {
    /// The names that the app may get, the most likely first: the one that is set, or those that can be derived from
    /// its script (whether `my app.js` is a file or a command line is known only after it is resolved).
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match (&self.name, &self.script) {
            (Some(name), _) => vec![name.clone()],
            (None, Some(script)) if script.contains(char::is_whitespace) => {
                vec![interpreter::command_name(script), interpreter::file_stem(script)]
            }
            (None, Some(script)) => vec![interpreter::file_stem(script)],
            (None, None) => Vec::new(),
        }
    }

    /// A draft with the settings of an existing app that can be changed.
    pub(super) fn of(spec: &AppSpec) -> Draft {
        Draft {
            env: spec.env.clone(),
            restart: spec.restart.clone(),
            stop: spec.stop.clone(),
            readiness: spec.readiness.clone(),
            watchdog: spec.watchdog,
            activation: spec.activation.clone(),
            health: spec.health.clone(),
            depends_on: spec.depends_on.clone(),
            on_reload_failure: spec.on_reload_failure,
            confinement: spec.confinement.clone(),
            sharing: spec.sharing.clone(),
            out: spec.logs.out.clone(),
            err: spec.logs.err.clone(),
            autostart: spec.autostart,
            ..Draft::default()
        }
    }

    /// Writes these settings into an existing app; the counterpart of [`Draft::of`].
    pub(super) fn put_into(self, spec: &mut AppSpec) {
        let home = spec.base_env.get("HOME").map(PathBuf::from);
        let place = |target| log_paths::place(target, &spec.cwd, home.as_deref());
        (spec.logs.out, spec.logs.err) = (place(self.out), place(self.err));
        spec.logs.merge = self.merge_logs.unwrap_or(spec.logs.merge);
        (spec.env, spec.restart, spec.stop) = (self.env, self.restart, self.stop);
        (spec.readiness, spec.autostart) = (self.readiness, self.autostart);
        (spec.watchdog, spec.activation) = (self.watchdog, self.activation);
        (spec.confinement, spec.sharing) = (self.confinement, self.sharing);
        spec.health = self.health;
        spec.depends_on = self.depends_on;
        spec.on_reload_failure = self.on_reload_failure;
        for path in &mut spec.confinement.read_only_paths {
            *path = spec.cwd.join(log_paths::expand_home(std::mem::take(path), home.as_deref()));
        }
        if let Some(args) = self.args {
            spec.args = args;
        }
        if let (Some(args), Program::Script { interpreter_args, .. }) = (self.interpreter_args, &mut spec.program) {
            *interpreter_args = args;
        }
    }
}
