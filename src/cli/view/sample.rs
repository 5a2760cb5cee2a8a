//! A sample process for the tests of the views.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::protocol::{Description, Exit, ListenerInfo, ProcessInfo, Status};
use crate::spec::{AppSpec, Env, ExecMode, Program, RestartRule, StopRule};

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
        program: Program::Script {
            script: "/srv/api/app.js".into(),
            interpreter: "node".into(),
            interpreter_args: vec!["--enable-source-maps".into()],
        },
        args: vec!["--port".into(), "3000".into()],
        cwd: "/srv/api".into(),
        mode: ExecMode::Cluster,
        instances: 4,
        base_env: std::sync::Arc::new(env(&[("HOME", "/home/ann"), ("PORT", "1")])),
        env: env(&[("DB", "postgres://u:hunter2@db/x"), ("DB_PASSWORD", "hunter2"), ("PORT", "3000")]),
        restart: RestartRule { stop_exit_codes: vec![0], max_memory: Some(300 << 20), ..RestartRule::default() },
        stop: StopRule { drain_timeout: Duration::from_secs(30), ..StopRule::default() },
        version: Some("1.2.3".into()),
        ..crate::spec::sample()
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
