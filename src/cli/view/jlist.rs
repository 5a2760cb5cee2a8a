//! The list as JSON in PM2's format, which many scripts read.
//!
//! Environments make it long, so the JSON is written directly from the answer of the daemon: no value tree, one buffer.

mod own;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::env;
use super::secret::{self, Redactor};
use crate::protocol::{Description, Exit, Status};
use crate::spec::{ExecMode, Program, signal};
use own::Own;

/// Keys of `pm2_env` that are not variables of the app: a variable of the same name stands only under `env`.
const RESERVED: [&str; 47] = [
    "args",
    "autorestart",
    "autostart",
    "axm_actions",
    "axm_dynamic",
    "axm_monitor",
    "axm_options",
    "balance",
    "created_at",
    "env",
    "exec_interpreter",
    "exec_mode",
    "exit_code",
    "exit_signal",
    "exp_backoff_restart_delay",
    "instance_var",
    "instances",
    "kill_timeout",
    "km_link",
    "listen_timeout",
    "max_memory_restart",
    "max_restarts",
    "merge_logs",
    "min_uptime",
    "name",
    "namespace",
    "node_args",
    "node_version",
    "pm_cwd",
    "pm_err_log_path",
    "pm_exec_path",
    "pm_out_log_path",
    "pm_pid_path",
    "pm_uptime",
    "pmr",
    "reason",
    "restart_delay",
    "restart_time",
    "shutdown_with_message",
    "status",
    "stop_exit_codes",
    "treekill",
    "unstable_restarts",
    "username",
    "version",
    "wait_ready",
    "watch",
];

#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    name: &'a str,
    pm2_env: Pm2Env<'a>,
    pm_id: u32,
    monit: Monit,
}

#[derive(Serialize)]
struct Monit {
    memory: u64,
    cpu: f64,
}

/// Part of the top level of `pm2_env`: each variable of the app.
struct Mirror<'a>(&'a [(&'a str, &'a str)], &'a str);

impl Serialize for Mirror<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reserved = |name: &str| name == self.1 || RESERVED.binary_search(&name).is_ok();
        serializer.collect_map(self.0.iter().copied().filter(|(name, _)| !reserved(name)))
    }
}

struct Variables<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Variables<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The number of the instance, under the variable name that the app chose for it.
struct Instance<'a>(&'a str, u32);

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reserved = RESERVED.binary_search(&self.0).is_ok();
        serializer.collect_map((!reserved).then_some((self.0, self.1)))
    }
}

/// Arguments. Secrets are redacted unless `show_secrets`.
struct Args<'a> {
    args: &'a [String],
    show_secrets: bool,
}

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.show_secrets {
            true => serializer.collect_seq(self.args),
            false => serializer.collect_seq(secret::args(self.args.iter().map(String::as_str))),
        }
    }
}

type Nothing = BTreeMap<(), ()>;

#[derive(Serialize)]
struct Pm2Env<'a> {
    #[serde(flatten)]
    mirror: Mirror<'a>,
    #[serde(flatten)]
    instance: Instance<'a>,
    args: Args<'a>,
    autorestart: bool,
    autostart: bool,
    axm_actions: [(); 0],
    axm_dynamic: Nothing,
    axm_monitor: Nothing,
    axm_options: Nothing,
    balance: crate::spec::Balance,
    created_at: u64,
    env: Variables<'a>,
    exec_interpreter: &'a str,
    exec_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp_backoff_restart_delay: Option<u128>,
    instance_var: &'a str,
    instances: u32,
    kill_timeout: u128,
    km_link: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen_timeout: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_memory_restart: Option<u64>,
    max_restarts: u32,
    merge_logs: bool,
    min_uptime: u128,
    name: &'a str,
    namespace: &'a str,
    node_args: Args<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_version: Option<&'a str>,
    pm_cwd: &'a Path,
    pm_err_log_path: Option<&'a PathBuf>,
    pm_exec_path: Cow<'a, str>,
    pm_out_log_path: Option<&'a PathBuf>,
    pm_pid_path: &'a Path,
    pm_uptime: Option<u64>,
    pmr: Own<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    restart_delay: u128,
    restart_time: u32,
    shutdown_with_message: bool,
    status: &'static str,
    stop_exit_codes: &'a [i32],
    treekill: bool,
    unstable_restarts: u32,
    username: &'a str,
    version: &'a str,
    wait_ready: bool,
    watch: bool,
}

/// One line of JSON: an array with an object for each process. Values that look like secrets in variables and arguments
/// are redacted unless `show_secrets`.
#[must_use]
pub fn json(described: &[Description], show_secrets: bool) -> Vec<u8> {
    let mut redactor = Redactor::new(show_secrets);
    let mut variables: Vec<(&str, &str)> = Vec::new();
    let mut out = vec![b'['];
    for (index, one) in described.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        variables.clear();
        variables.extend(env::of(one).map(|(name, value)| (name, redactor.shown(name, value))));
        serde_json::to_writer(&mut out, &row(one, &variables, show_secrets))
            .expect("strings and numbers can be written to memory");
    }
    out.push(b']');
    out
}

fn row<'a>(one: &'a Description, variables: &'a [(&'a str, &'a str)], show_secrets: bool) -> Row<'a> {
    let info = &one.info;
    let online = matches!(info.status, Status::Online | Status::Unhealthy);
    let cpu = if online { (f64::from(info.cpu) * 10.0).round() / 10.0 } else { 0.0 };
    Row {
        pid: info.pid.unwrap_or(0),
        name: &info.name,
        pm2_env: pm2_env(one, variables, show_secrets),
        pm_id: info.id,
        monit: Monit { memory: if online { info.memory } else { 0 }, cpu },
    }
}

fn pm2_env<'a>(one: &'a Description, variables: &'a [(&'a str, &'a str)], show_secrets: bool) -> Pm2Env<'a> {
    let (info, spec) = (&one.info, &one.spec);
    let (pm_exec_path, exec_interpreter, node_args) = program(&spec.program, show_secrets);
    let (exit_code, exit_signal) = match info.last_exit {
        Some(Exit::Code(code)) => (Some(code), None),
        // PM2 has 0 after a death by signal, and scripts expect a number.
        Some(Exit::Signal(signal)) => (Some(0), Some(signal)),
        Some(Exit::OutOfMemory { .. }) => (Some(0), Some(signal::KILL)),
        Some(Exit::Unknown) | None => (None, None),
    };
    Pm2Env {
        mirror: Mirror(variables, &spec.instance_var),
        instance: Instance(&spec.instance_var, info.instance),
        args: Args { args: &spec.args, show_secrets },
        autorestart: spec.restart.autorestart,
        autostart: spec.autostart,
        axm_actions: [],
        axm_dynamic: Nothing::new(),
        axm_monitor: Nothing::new(),
        axm_options: Nothing::new(),
        balance: spec.balance,
        created_at: info.created_at,
        env: Variables(variables),
        exec_interpreter,
        exec_mode: exec_mode(info.mode),
        exit_code,
        exit_signal,
        exp_backoff_restart_delay: spec.restart.backoff.map(|delay| delay.as_millis()),
        instance_var: &spec.instance_var,
        instances: spec.instances,
        kill_timeout: spec.stop.kill_timeout.as_millis(),
        km_link: false,
        listen_timeout: spec.readiness.listen_timeout.map(|timeout| timeout.as_millis()),
        max_memory_restart: spec.restart.max_memory,
        max_restarts: spec.restart.max_restarts,
        merge_logs: spec.logs.merge,
        min_uptime: spec.restart.min_uptime.as_millis(),
        name: &info.name,
        namespace: &info.namespace,
        node_args: Args { args: node_args, show_secrets },
        node_version: one.node_version.as_deref(),
        pm_cwd: &spec.cwd,
        pm_err_log_path: info.err_log.as_ref(),
        pm_exec_path,
        pm_out_log_path: info.out_log.as_ref(),
        pm_pid_path: &one.pid_file,
        pm_uptime: info.started_at,
        pmr: Own::from(one),
        reason: info.reason.as_deref(),
        restart_delay: spec.restart.delay.as_millis(),
        restart_time: info.restarts,
        shutdown_with_message: spec.stop.with_message,
        status: info.status.word(),
        stop_exit_codes: &spec.restart.stop_exit_codes,
        treekill: spec.stop.tree,
        unstable_restarts: info.unstable_restarts,
        username: &info.user,
        version: info.version.as_deref().unwrap_or("N/A"),
        wait_ready: spec.readiness.wait_ready,
        watch: false,
    }
}

/// The program, its interpreter (`none`, as in PM2, if it has none), and the interpreter's arguments.
fn program(program: &Program, show_secrets: bool) -> (Cow<'_, str>, &str, &[String]) {
    match program {
        Program::Script { script, interpreter, interpreter_args } => {
            (script.to_string_lossy(), interpreter, interpreter_args)
        }
        Program::Binary { path } => (path.to_string_lossy(), "none", &[]),
        Program::CommandLine { line, shell } => {
            let line = if show_secrets { line.into() } else { secret::command_line(line).into() };
            (line, shell.to_str().unwrap_or("sh"), &[])
        }
    }
}

fn exec_mode(mode: ExecMode) -> &'static str {
    match mode {
        ExecMode::Fork => "fork_mode",
        ExecMode::Cluster => "cluster_mode",
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_reserved_keys_are_sorted_and_equal_to_the_written_keys() {
        assert!(RESERVED.is_sorted());
        let mut one = sample::description();
        one.spec.env.clear();
        one.spec.base_env = std::sync::Arc::default();
        one.own_env.clear();
        one.info.last_exit = Some(Exit::Signal(9));
        one.spec.restart.backoff = Some(std::time::Duration::from_millis(100));
        one.spec.restart.max_memory = Some(1);
        one.spec.readiness.listen_timeout = Some(std::time::Duration::from_secs(3));
        one.info.reason = Some("x".into());
        one.node_version = Some("v24".into());
        let list: serde_json::Value = serde_json::from_slice(&json(&[one], false)).unwrap();
        let mut keys: Vec<&str> = list[0]["pm2_env"].as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| *key != "NODE_APP_INSTANCE");
        keys.sort_unstable();
        assert_eq!(keys, RESERVED);
    }

    #[test]
    fn variables_are_mirrored_and_never_duplicate_a_key() {
        let mut one = sample::description();
        one.spec.env.insert("status".into(), "mine".into());
        let text = String::from_utf8(json(&[one], false)).unwrap();
        assert_eq!(text.matches("\"status\":").count(), 2, "once as PM2's, once under env: {text}");
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let env = &list[0]["pm2_env"];
        assert_eq!((&env["status"], &env["env"]["status"]), (&"online".into(), &"mine".into()));
        assert_eq!((&env["PORT"], &env["env"]["PORT"]), (&"3000".into(), &"3000".into()));
        assert_eq!(env["NODE_APP_INSTANCE"], 1);
        assert_eq!(env["env"]["NODE_APP_INSTANCE"], "1");
    }

    #[test]
    fn secrets_are_redacted_unless_they_are_requested() {
        let shown = |secrets| String::from_utf8(json(&[sample::description()], secrets)).unwrap();
        assert!(!shown(false).contains("hunter2"));
        assert_eq!(shown(true).matches("hunter2").count(), 4);
        let mut one = sample::description();
        one.spec.args = vec!["--port=80".into(), "--password".into(), "hunter3".into()];
        let line = "PORT=80 app --token=hunter3";
        one.spec.program = Program::CommandLine { line: line.into(), shell: "/bin/sh".into() };
        let shown = |secrets| String::from_utf8(json(&[one.clone()], secrets)).unwrap();
        assert!(shown(false).contains(r#""args":["--port=80","--password","[redacted]"]"#), "{}", shown(false));
        assert!(!shown(false).contains("hunter3") && shown(true).contains(line), "{}", shown(false));
    }

    #[test]
    fn the_keys_that_scripts_of_pm2_read_are_present() {
        let list: serde_json::Value = serde_json::from_slice(&json(&[sample::description()], false)).unwrap();
        let one = &list[0];
        assert_eq!(one["pid"], 4711);
        assert_eq!(one["pm_id"], 3);
        assert_eq!(one["monit"], serde_json::json!({"memory": 44_564_480, "cpu": 1.3}));
        assert_eq!(one["pm2_env"]["exec_mode"], "cluster_mode");
        assert_eq!(one["pm2_env"]["pm_exec_path"], "/srv/api/app.js");
        assert_eq!(one["pm2_env"]["pm_uptime"], 1_000_000);
        assert_eq!(one["pm2_env"]["axm_options"], serde_json::json!({}));
    }

    #[test]
    fn an_empty_list_is_an_empty_array() {
        assert_eq!(json(&[], false), b"[]");
    }

    #[test]
    fn data_that_pm2_does_not_have_stands_under_one_key() {
        let mut one = sample::description();
        one.load = Some((3, 5));
        (one.info.status, one.info.fault) = (Status::Unhealthy, Some("GET /up: status 500".into()));
        let list: serde_json::Value = serde_json::from_slice(&json(&[one], false)).unwrap();
        let own = &list[0]["pm2_env"]["pmr"];
        assert_eq!((&own["mechanism"], &own["fault"]), (&"node".into(), &"GET /up: status 500".into()));
        assert_eq!((&own["connections"]["waiting"], &own["connections"]["open"]), (&3.into(), &5.into()));
        assert_eq!((&own["listeners"][0]["address"], &own["queue"]["shed"]), (&"[::]:3000".into(), &"answer".into()));
        assert!(list[0]["monit"]["memory"].as_u64() > Some(0), "it runs: {list}");
    }
}
