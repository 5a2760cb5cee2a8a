//! A line in the output makes a process ready, however it is written and whichever God reads it.

use std::fs;

use serde_json::json;

use crate::crash::kill_god;
use crate::crash::kill_points::{arm, fatal_points};
use crate::support::Home;
use crate::support::eventually::{WAIT_LIMIT, until};

/// Starts a shell command as the app `it`, which is ready when a line matches. Does not wait.
fn start(home: &Home, line: &str, log: &str, patience: u32) -> crate::support::pmr::Running {
    let it = json!({ "name": "it", "script": line, "health": { "log": log }, "listen_timeout": patience });
    home.write("it.json", &json!({ "apps": [it] }).to_string());
    home.pmr(["start", "it.json"]).spawn()
}

/// A shell command that waits for a file.
fn after(file: &str) -> String {
    format!("until test -e {file}; do sleep 0.02; done")
}

#[test]
fn a_line_written_in_pieces_makes_a_process_ready() {
    let home = Home::new();
    let line = format!(
        "echo port 80x; echo port; printf 'listens on po' >&2; {}; echo 'rt 8080!' >&2; {}; printf more; exec sleep 300",
        after("go"),
        after("on")
    );
    let starting = start(&home, &line, r"/port \d+!$/", 60_000);
    home.logged("it-out.log", "port 80x\nport\n");
    home.status("it", "launching");
    assert_eq!(home.log("it-error.log"), "", "what may become the line is not moved before it is one");
    home.write("go", "");
    starting.wait(WAIT_LIMIT).ok();
    home.status("it", "online");
    home.logged("it-error.log", "listens on port 8080!\n");
    home.write("on", "");
    home.logged("it-out.log", "more");
}

#[test]
fn a_process_without_its_line_is_not_ready_and_the_reason_is_reported() {
    let home = Home::new();
    let never = start(&home, "echo port 80; exec sleep 300", "listening", 300);
    never.wait(WAIT_LIMIT).code(1).complains("no line of its output has `listening`");
    home.status("it", "launching");
    for (health, why) in [
        (json!({ "log": "up", "interval": 500 }), "`log` is awaited once"),
        (json!({ "log": "/(/" }), "apps[0].health"),
        (json!({ "log": "up", "exec": "true" }), "apps[0].health"),
    ] {
        let other = json!({ "name": "other", "script": "exec sleep 300", "health": health });
        home.write("other.json", &json!({ "apps": [other] }).to_string());
        home.run("start other.json").refuses(why);
    }
}

#[test]
fn a_release_without_its_line_is_rolled_back() {
    let home = Home::new();
    home.write("release", "good");
    let port = crate::support::http::free_port();
    home.serve(port, &format!("{} -i 2 --health log:listens", crate::support::app("gate.js")));
    let before = crate::support::listing::pids(&home.of("gate"));
    home.write("release", "mute");
    home.run("reload gate --listen-timeout 2s")
        .code(1)
        .complains("no line of its output has `listens`; the old process goes on serving");
    assert_eq!(crate::support::listing::pids(&home.of("gate")), before);
    assert!(crate::support::http::get(port, "/").is_ok());
}

#[test]
fn a_line_in_discarded_output_counts() {
    let home = Home::new();
    let it = json!({ "name": "it", "script": "echo up; exec sleep 300", "health": "log:up", "out_file": "/dev/null",
        "listen_timeout": "100s" });
    home.write("it.json", &json!({ "apps": [it] }).to_string());
    home.ok("start it.json");
    home.status("it", "online");
}

/// God finds the line, records it, and dies before it handles the record.
#[test]
fn a_line_that_is_found_before_a_crash_counts_afterwards() {
    let home = Home::new();
    let starting = start(&home, &format!("{}; echo it is up; exec sleep 300", after("go")), "is up", 60_000);
    home.status("it", "launching");
    let pid = home.one("it").pid;
    arm(&home, "line-found=return");
    starting.wait(WAIT_LIMIT);
    home.status("it", "launching");
    home.write("go", "");
    until("God has died of it", || fatal_points(&home) == ["line-found"]);
    assert_eq!(home.status("it", "online")[0].pid, pid);
    home.logged("it-out.log", "it is up\n");
}

/// The beginning of the line is written before God dies, the end while there is no God, or later.
#[test]
fn a_line_that_is_split_by_a_crash_is_found() {
    let home = Home::new();
    let line = format!("echo begin; printf 'it is '; {}; echo up; exec sleep 300", after("go"));
    let starting = start(&home, &line, "it is up", 60_000);
    home.logged("it-out.log", "begin\n");
    let pid = home.one("it").pid;
    for round in 0..4 {
        if round == 3 {
            home.write("go", "");
        }
        kill_god(&home);
    }
    starting.wait(WAIT_LIMIT);
    assert_eq!(home.status("it", "online")[0].pid, pid);
    let log = home.logged("it-out.log", "up\n");
    assert_eq!(log, "begin\nit is up\n");
    let errors = fs::read_to_string(home.root().join("pmr.log")).unwrap();
    assert!(!errors.contains("cannot read an app's output"), "{errors}");
}
