//! A process to try the views on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::protocol::{Description, Exit, ListenerInfo, ProcessInfo, Status};
use crate::spec::{AppSpec, Balance, Env, ExecMode, LogSpec, Program, Readiness, RestartRule, Sharing, StopRule};

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
}

pub fn info() -> ProcessInfo {
    ProcessInfo {
        id: 3,
        name: "api".into(),
        namespace: "default".into(),
        instance: 1,
        mode: ExecMode::Cluster,
        version: Some("1.2.3".into()),
        pid: Some(4711),
        status: Status::Online,
        fault: None,
        out_of_rotation: false,
        restarts: 2,
        unstable_restarts: 0,
        started_at: Some(1_000_000),
        created_at: 900_000,
        last_exit: Some(Exit::Signal(9)),
        reason: None,
        memory: 44_564_480,
        cpu: 1.25,
        user: "ann".into(),
        out_log: Some("/h/logs/api-out-3.log".into()),
        err_log: Some("/h/logs/api-error-3.log".into()),
    }
}

pub fn spec() -> AppSpec {
    AppSpec {
        name: "api".into(),
        namespace: "default".into(),
        program: Program::Script {
            script: "/srv/api/app.js".into(),
            interpreter: "node".into(),
            interpreter_args: vec!["--enable-source-maps".into()],
        },
        args: vec!["--port".into(), "3000".into()],
        cwd: "/srv/api".into(),
        mode: ExecMode::Cluster,
        instances: 4,
        balance: Balance::RoundRobin,
        sharing: Sharing::default(),
        queue: crate::spec::QueueRule::default(),
        base_env: std::sync::Arc::new(env(&[("HOME", "/home/ann"), ("PORT", "1")])),
        env: env(&[("DB", "postgres://u:hunter2@db/x"), ("DB_PASSWORD", "hunter2"), ("PORT", "3000")]),
        instance_var: "NODE_APP_INSTANCE".into(),
        restart: RestartRule {
            autorestart: true,
            max_restarts: 16,
            min_uptime: Duration::from_secs(1),
            delay: Duration::ZERO,
            backoff: None,
            stop_exit_codes: vec![0],
            max_memory: Some(300 << 20),
        },
        stop: StopRule {
            kill_timeout: Duration::from_millis(1600),
            drain_timeout: Duration::from_secs(30),
            with_message: false,
            tree: true,
        },
        confinement: crate::spec::Confinement::default(),
        watchdog: None,
        activation: crate::spec::Activation::default(),
        readiness: Readiness { wait_ready: false, listen_timeout: None },
        health: None,
        depends_on: crate::spec::Dependencies::new(),
        on_reload_failure: crate::spec::OnReloadFailure::default(),
        logs: LogSpec::default(),
        autostart: true,
        version: Some("1.2.3".into()),
    }
}

pub fn description() -> Description {
    Description {
        info: info(),
        spec: spec(),
        own_env: env(&[("NODE_APP_INSTANCE", "1"), ("pm_id", "3")]),
        pid_file: "/h/pids/api-3.pid".into(),
        listeners: vec![ListenerInfo {
            address: "[::]:3000".into(),
            mechanism: "round robin".into(),
            workers: 4,
            why: None,
            waiting: 0,
            dealt: None,
        }],
        connections: 1042,
        load: None,
        obstacle: None,
        node_version: Some("v24.11.0".into()),
        says: None,
        under_way: None,
    }
}
