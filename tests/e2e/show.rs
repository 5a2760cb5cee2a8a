//! Output for people and scripts: lists, descriptions, environments, help, completion.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::support::eventually::until;
use crate::support::{Home, app, pmr, processes};

const VERBS: &[&str] = &[
    "start",
    "stop",
    "restart",
    "reload",
    "delete",
    "scale",
    "reset",
    "sendSignal",
    "list",
    "jlist",
    "describe",
    "id",
    "pid",
    "env",
    "logs",
    "flush",
    "reloadLogs",
    "save",
    "resurrect",
    "startup",
    "unstartup",
    "kill",
    "ping",
    "completion",
];

#[test]
fn every_name_of_the_list_command_prints_the_same_table() {
    let home = Home::new();
    home.ok(&format!("start {} -n api --namespace web", app("tell.sh")));
    for verb in ["list", "ls", "l", "ps", "status"] {
        let list = home.ok(verb);
        let head = list.out.lines().nth(1).unwrap();
        let titles: Vec<&str> = head.split('│').map(str::trim).filter(|title| !title.is_empty()).collect();
        let columns = "id name namespace version mode pid uptime ↺ status cpu mem user watching";
        assert_eq!(titles.join(" "), columns, "{verb}");
        for cell in ["api", "web", "fork", "online", "disabled"] {
            assert!(list.out.lines().nth(3).unwrap().contains(cell), "{}", list.transcript());
        }
        assert!(list.err.is_empty());
    }
    home.ok("list -m").says("+--- api\n").says("status : online");
    home.ok("stop api -s").out.is_empty().then_some(()).expect("-s says nothing");
    home.ok("list").says("stopped");
}

#[test]
fn the_list_can_be_sorted() {
    let home = Home::new();
    for name in ["b", "c", "a"] {
        home.ok(&format!("start {} -n {name}", app("tell.sh")));
    }
    let order = |words: &str| -> String {
        let list = home.ok(&format!("list {words}")).out;
        list.lines()
            .filter(|line| line.contains("default"))
            .map(|line| line.split('│').nth(2).unwrap().trim().to_owned())
            .collect()
    };
    assert_eq!(order(""), "abc");
    assert_eq!(order("--sort name:desc"), "cba");
    assert_eq!(order("--sort id"), "bca");
    assert_eq!(order("--sort uptime:desc"), "bca");
    home.run("list --sort nosuch").refuses("is no field to sort by");
}

#[test]
fn a_terminal_gets_colours_and_only_columns_that_fit() {
    let home = Home::new();
    home.ok(&format!("start {} -n api", app("tell.sh")));
    let on_terminal = |columns: u16, env: &str| -> String {
        let line = format!("stty cols {columns}; {env} exec {} list", pmr::BINARY);
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("PMR_HOME", home.root()).env("TERM", "xterm");
        script.env("SHELL", "/bin/bash").env_remove("NO_COLOR").stdin(Stdio::null());
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    for (columns, has, lacks) in [(200, "watching", "\0"), (80, "mode", "watching"), (45, "status", "mode")] {
        let text = on_terminal(columns, "");
        assert!(text.contains(has) && !text.contains(lacks), "{columns}: {text}");
        assert!(text.contains('\u{1b}'), "{text:?}");
        let widest = on_terminal(columns, "NO_COLOR=1");
        assert!(!widest.contains('\u{1b}'), "{widest:?}");
        assert!(widest.lines().all(|line| line.trim_end().chars().count() <= usize::from(columns)), "{widest}");
    }
}

#[test]
fn jlist_prints_json_alone_in_the_shape_of_pm2() {
    let home = Home::new();
    let first = home.ok("jlist");
    assert_eq!((first.out.as_str(), first.err.as_str()), ("[]", ""));
    home.ok(&format!("start {} -n api -- x", app("tell.js")));
    let row = home.one("api");
    let top: BTreeSet<&str> = row.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(top, BTreeSet::from(["monit", "name", "pid", "pm2_env", "pm_id"]));
    for key in [
        "args",
        "autorestart",
        "created_at",
        "exec_interpreter",
        "exec_mode",
        "instances",
        "kill_timeout",
        "merge_logs",
        "name",
        "namespace",
        "node_args",
        "pm_cwd",
        "pm_err_log_path",
        "pm_exec_path",
        "pm_out_log_path",
        "pm_pid_path",
        "pm_uptime",
        "restart_time",
        "status",
        "treekill",
        "unstable_restarts",
        "username",
        "version",
        "watch",
        "axm_monitor",
        "env",
    ] {
        assert!(!row.env(key).is_null(), "{key}");
    }
    assert!(row.json["monit"]["memory"].is_u64() && row.json["monit"]["cpu"].is_number());
    let written = || std::fs::read_to_string(row.text("pm_pid_path")).unwrap_or_default();
    until("the pid file", || written().trim() == row.pid.to_string());
    assert_eq!(row.text("pm_exec_path"), app("tell.js"));
}

#[test]
fn every_name_of_the_describe_command_prints_all_fields() {
    let home = Home::new();
    home.ok(&format!("start {} -n api --max-memory-restart 300M -k 3s -- --flag", app("tell.js")));
    let pid = home.one("api").pid.to_string();
    for verb in ["describe", "show", "info", "desc"] {
        let shown = home.ok(&format!("{verb} api"));
        for text in [
            "online",
            pid.as_str(),
            "tell.js",
            "node",
            "--flag",
            "300.0mb",
            "3 s",
            "api-out.log",
            "api-error.log",
            "root",
        ] {
            let text = if text == "root" { "api-0.pid" } else { text };
            assert!(shown.out.contains(text), "{text}: {}", shown.transcript());
        }
    }
    home.run("describe nosuch").refuses("no process or namespace matches `nosuch`");
    home.run("describe").refuses("required");
}

#[test]
fn ids_and_pids_are_printed_for_scripts() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -i 2 -x", app("tell.sh")));
    home.ok(&format!("start {} -n other", app("tell.sh")));
    assert_eq!(home.ok("id api").out, "[ 0, 1 ]\n");
    assert_eq!(home.ok("id nosuch").out, "[]\n");
    let pids: Vec<String> = home.of("api").iter().map(|row| row.pid.to_string()).collect();
    assert_eq!(home.ok("pid api").out, format!("{}\n", pids.join("\n")));
    assert_eq!(home.ok("pid").out.lines().count(), 3);
    assert_eq!(home.ok("pid nosuch").out, "\n");
    home.ok("stop other");
    assert_eq!(home.ok("pid other").out, "0\n");
}

#[test]
fn an_environment_is_shown_without_its_secrets() {
    let home = Home::new();
    let start = home.pmr(["start", &app("tell.sh")]).env("COLOUR", "red").env("DB_PASSWORD", "hunter2");
    start.env("DATABASE_URL", "postgres://u:hunter3@db/x").run().ok();
    for line in ["env 0", "env tell", "jlist", "describe tell"] {
        let shown = home.ok(line).out;
        assert!(!shown.contains("hunter"), "{line}: {shown}");
    }
    home.ok("env 0").says("COLOUR: red").says("DB_PASSWORD: [redacted]").says("pm_id: 0");
    home.ok("env 0 --show-secrets").says("DB_PASSWORD: hunter2");
    home.ok("jlist --show-secrets").says("hunter2");
    let pid = home.one("tell").pid;
    let environ = processes::environ(pid);
    let has = environ.split(|byte| *byte == 0).any(|variable| variable == b"DB_PASSWORD=hunter2");
    assert!(has, "the app has its secrets: {}", processes::command_line(pid));
    home.run("env 7").refuses("no process or namespace matches `7`");
}

#[test]
fn every_command_has_help_with_an_example_and_is_in_the_overview() {
    let home = Home::new();
    let overview = home.ok("--help").out;
    for verb in VERBS {
        assert!(overview.contains(verb), "{verb} in the overview");
        let help = home.ok(&format!("{verb} --help")).out;
        assert!(help.contains("Example"), "{verb}: {help}");
        assert!(help.contains(&format!("pmr {verb}")), "{verb}: {help}");
    }
    assert!(!home.root().exists(), "help starts no daemon");
    home.run("frobnicate").refuses("unrecognized subcommand");
    home.run("strat x").refuses("start");
    for flag in ["-v", "-V", "--version"] {
        home.ok(flag).says(env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn completion_is_a_script_the_shell_accepts() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.ok(&format!("completion {shell}")).out;
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        let path = home.write(&format!("completion.{shell}"), &script);
        let Ok(checked) = Command::new(shell).arg("-n").arg(&path).output() else { continue };
        assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    home.run("completion tcsh").refuses("tcsh");
}

#[test]
fn the_doctor_reports_on_the_machine_without_a_daemon() {
    let home = Home::new();
    let report = home.ok("doctor");
    assert!(report.out.contains("any program in cluster mode") && report.err.is_empty(), "{}", report.out);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&home.ok("doctor --json").out).unwrap();
    assert!(findings.iter().any(|finding| finding["subject"] == "home" && finding["health"] == "good"));
    home.pmr(["ping"]).run().code(1);
}
