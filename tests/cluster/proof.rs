//! No request fails, whatever happens to an app under load, and whatever release it is given.
//!
//! `tests/bench/reload.mjs` causes the events and counts; this file asserts the results. The short test runs an app of each
//! way to share a port through every event, with a few clients and one reload; the long one runs every app, with a
//! handler of SIGINT and without.
//!
//! ## Failures that cannot be prevented
//!
//! Requests inside a worker that is killed, or that exits by itself as a canary, fail.
//!
//! A program with a protocol of its own (`net`, `ws`) without a handler of SIGINT, whose clients stay connected: only
//! the app could tell them to reconnect, so they send requests until the drain timeout ends. Then each connection may
//! be cut during a request. With a handler, or on new connections, no request fails.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::load::Failed;
use crate::packages;
use crate::support::Home;
use crate::support::deadline::Deadline;
use crate::support::pmr::BINARY;

/// The most requests that may be inside the two workers at once: one of each client, and three of each uploading one.
const UNDER_WAY: usize = 4 + 4 + 2 * 3 + 2 + 4;
const WORKERS: usize = 2;
const KILL: &str = "kill -9";
const DIES: &str = "dies 5 s later";
/// How each broken release fails, and what the output of the reload must contain then.
const BROKEN: [(&str, &[&str]); 4] = [
    ("crashes at start", &["exited with code 7", "no such table: users", "the old process goes on serving"]),
    ("never listens", &["not ready after", "the old process goes on serving"]),
    ("fails its health check", &["not ready after", "the old process goes on serving"]),
    (DIES, &["exited with code 9", "out of file descriptors"]),
];

/// One app, with or without a handler of SIGINT.
#[derive(Debug, Deserialize)]
struct Row {
    app: String,
    graceful: bool,
    cells: Vec<Cell>,
    /// Processes that outlived the daemon.
    left: usize,
}

/// The results of one event.
#[derive(Debug, Deserialize)]
struct Cell {
    event: String,
    answered: u64,
    failed: Vec<Failed>,
    /// The workers before the event.
    workers: Vec<i32>,
    /// Of the reload of a broken release: the command's exit code and output, the least number of workers that were
    /// online meanwhile, and how many of the workers before it still serve.
    code: Option<i32>,
    said: Option<String>,
    least: Option<usize>,
    kept: Option<usize>,
    /// The worker that was killed.
    victim: Option<i32>,
}

/// Runs the measurement with the binary under test. Without `words`: all apps, both kinds, all events.
fn measured(words: &[&str]) -> Vec<Row> {
    packages::examples();
    let deadline = Deadline::new(None);
    deadline.limit(Duration::from_secs(if words.is_empty() { 3600 } else { 300 }));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let cells = folder.path().join("cells.json");
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/reload.mjs")).args([
        "--only",
        "pmr",
        "--program",
        BINARY,
    ]);
    let ran = node.arg("--json").arg(&cells).args(words).output().expect("node is installed");
    let [out, complaint] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}");
    assert!(ran.status.success(), "the measurement was completed: {complaint}");
    let cells = fs::read(&cells).expect("the cells were written");
    serde_json::from_slice(&cells).expect("they have the expected fields")
}

impl Row {
    fn check(&self) {
        assert_eq!(self.left, 0, "{} leaves no process behind", self.app);
        for cell in &self.cells {
            assert!(cell.answered > 0, "{} is under load: {cell:?}", self.app);
            self.check_failures(cell);
            cell.check_release();
        }
    }

    fn check_failures(&self, cell: &Cell) {
        let cut = |failed: &Failed| matches!(&*failed.how, "reset" | "truncated");
        if matches!(&*cell.event, KILL | DIES) {
            let inside = |failed: &Failed| cut(failed) && failed.pid.is_none_or(|pid| cell.has_died(pid));
            assert!(cell.failed.len() <= UNDER_WAY && cell.failed.iter().all(inside), "{self:?}");
        } else if self.has_no_goodbye() && cell.code.is_none() {
            let impossible = |failed: &Failed| cut(failed) && failed.mode != "new";
            assert!(cell.failed.iter().all(impossible), "{self:?}");
        } else {
            assert!(cell.failed.is_empty(), "{} {}: {:?}", self.app, cell.event, cell.failed);
        }
    }

    /// True if only the app could tell clients to reconnect, and does not; see the module.
    fn has_no_goodbye(&self) -> bool {
        !self.graceful && matches!(&*self.app, "net" | "ws")
    }
}

impl Cell {
    /// True for the worker that was killed. Without one, true for each new worker: a canary that exited.
    fn has_died(&self, pid: i32) -> bool {
        self.victim.map_or_else(|| !self.workers.contains(&pid), |victim| victim == pid)
    }

    /// Asserts that a broken release costs no worker, and that the command fails with a reason.
    fn check_release(&self) {
        let Some((_, words)) = BROKEN.into_iter().find(|(event, _)| *event == self.event) else { return };
        let said = self.said.as_deref().unwrap_or_default();
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        assert_eq!((self.least, self.kept), (Some(WORKERS), Some(WORKERS)), "{self:?}");
        assert!(words.iter().all(|word| said.contains(word)), "{self:?}");
    }
}

/// True if `bind` and `listen` can be intercepted on this machine.
fn can_intercept() -> bool {
    Home::new().run("doctor").out.contains("unmodified programs share their ports")
}

#[test]
fn no_way_to_share_a_port_loses_a_request_to_any_event() {
    let events =
        "reload,scale 2→4→2,memory limit,kill -9,crashes at start,never listens,fails its health check,dies 5 s later";
    let apps = "http abrupt,http graceful,express abrupt,ws graceful,socketio abrupt";
    let apps = if can_intercept() { format!("{apps},python abrupt") } else { apps.to_owned() };
    let rows = measured(&["--brief", "--jobs", "6", "--rows", &apps, "--events", events]);
    assert_eq!(rows.len(), apps.split(',').count());
    rows.iter().for_each(Row::check);
}

#[test]
#[ignore = "long: every app, both kinds, all events"]
fn no_app_loses_a_request_to_any_event() {
    let rows = measured(&["--jobs", "2"]);
    rows.iter().for_each(Row::check);
}
