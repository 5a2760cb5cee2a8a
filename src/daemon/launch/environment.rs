//! The environment a process is started with.
//!
//! From weakest to strongest: the caller's environment, PM2's descriptive variables, what the spec declares, and what
//! the process needs from pmr to work at all.

use std::path::{Path, PathBuf};

use super::super::runs::table::{CHECK_VARIABLE, RUN_VARIABLE};
use super::child_fds::ChildFds;
use super::given_sockets;
use crate::paths::Home;
use crate::protocol::info::EpochMs;
use crate::spec::log_paths::{self, LogPaths};
use crate::spec::{AppSpec, Env, Program};
use crate::supervisor::Process;

/// What the environment of one run is made from.
pub(crate) struct Setting<'a> {
    /// The app.
    pub spec: &'a AppSpec,
    /// The process.
    pub process: &'a Process,
    /// `PMR_HOME`.
    pub home: &'a Path,
    /// The files its output goes to.
    pub logs: &'a LogPaths,
    /// Its pid file.
    pub pid_file: &'a Path,
    /// When the run starts, or started.
    pub now: EpochMs,
}

/// The variables that describe the process to itself, PM2's and ours. `describe` shows them.
#[must_use]
pub(crate) fn own(setting: &Setting<'_>) -> Env {
    let (spec, process) = (setting.spec, setting.process);
    let mut env = Env::new();
    let mut put = |name: &str, value: String| env.insert(name.to_owned(), value);
    put("name", spec.name.clone());
    put("namespace", spec.namespace.clone());
    put("pm_id", process.id.0.to_string());
    put("instances", spec.instances.to_string());
    put("instance_var", spec.instance_var.clone());
    put(&spec.instance_var, process.instance.to_string());
    put("exec_mode", format!("{}_mode", spec.mode.word()));
    put("status", "launching".to_owned());
    put("autorestart", spec.restart.autorestart.to_string());
    put("restart_time", process.restarts.to_string());
    put("unstable_restarts", process.history.unstable().to_string());
    put("pm_uptime", setting.now.to_string());
    put("pm_cwd", spec.cwd.display().to_string());
    put("pm_pid_path", setting.pid_file.display().to_string());
    put("PMR_HOME", setting.home.display().to_string());
    put("PM2_HOME", setting.home.display().to_string());
    put("PWD", spec.cwd.display().to_string());
    for (name, path) in [("pm_out_log_path", &setting.logs.out), ("pm_err_log_path", &setting.logs.err)] {
        put(name, path.as_ref().map_or("/dev/null".to_owned(), |path| path.display().to_string()));
    }
    let (file, interpreter) = match &spec.program {
        Program::Script { script, interpreter, .. } => (script.display().to_string(), interpreter.as_str()),
        Program::Binary { path } => (path.display().to_string(), "none"),
        Program::CommandLine { line, .. } => (line.clone(), "none"),
    };
    put("pm_exec_path", file);
    put("exec_interpreter", interpreter.to_owned());
    env
}

/// The whole environment of a run, as `NAME=value`.
#[must_use]
pub(crate) fn whole(setting: &Setting<'_>, mark: &str, child_fds: &ChildFds) -> Vec<String> {
    let spec = setting.spec;
    let mut env = Env::clone(&spec.base_env);
    env.extend(own(setting));
    env.extend(spec.env.clone());
    let mut need = |name: &str, value: String| env.insert(name.to_owned(), value);
    need("pm_id", setting.process.id.0.to_string());
    need(&spec.instance_var, setting.process.instance.to_string());
    need(RUN_VARIABLE, mark.to_owned());
    // The caller may run under another process manager, whose values mean nothing here.
    for foreign in [given_sockets::PID_VARIABLE, CHECK_VARIABLE, CHECKED_PID] {
        env.remove(foreign);
    }
    let mut need = |name: &str, value: String| env.insert(name.to_owned(), value);
    child_fds.variables().for_each(|(name, value)| drop(need(name, value.to_owned())));
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The variable by which a check knows the pid of the worker it is about.
const CHECKED_PID: &str = "PMR_PID";

/// The whole environment of a check by command: that of the run, without the variables of the run's own descriptors and
/// readiness, and with the pid of its main process.
#[must_use]
pub(crate) fn of_check(setting: &Setting<'_>, mark: &str, pid: i32) -> Vec<String> {
    let mut env = whole(setting, mark, &ChildFds::default());
    env.retain(|entry| entry.split_once('=').is_none_or(|(name, _)| name != RUN_VARIABLE));
    env.extend([format!("{CHECK_VARIABLE}={mark}"), format!("{CHECKED_PID}={pid}")]);
    env
}

/// The log files of a process, and its pid file.
#[must_use]
pub(crate) fn files(home: &Home, spec: &AppSpec, process: &Process) -> (LogPaths, PathBuf) {
    let logs = log_paths::log_paths(&home.logs(), spec, process.id.0);
    (logs, home.pids().join(log_paths::pid_file_name(spec, process.id.0)))
}
