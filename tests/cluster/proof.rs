//! Not one failed request: whatever happens to an app under load, and whatever release it is given.
//!
//! `tests/bench/reload.mjs` lets it happen and counts; here stands what must come out. The short test takes an app of each
//! way to share a port through every event, with a few clients and one reload; the long one is the whole of it: every app,
//! with a handler of SIGINT and without.
//!
//! ## What is impossible
//!
//! What is inside a worker that is killed, or that dies by itself as a canary, dies with it.
//!
//! A program of its own protocol (`net`, `ws`) without a handler of SIGINT, whose clients stay connected: only the
//! app can end their requests, so they send requests until the drain timeout ends, and then each connection may be cut
//! in the middle of a request. With a handler, or on new connections, nothing fails.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::load::Failed;
use crate::packages;
use crate::support::Home;
use crate::support::deadline::Deadline;
use crate::support::pmr::BINARY;

/// Requests that may be inside two workers at once: those of all clients, uploads three to a connection.
const UNDER_WAY: usize = 4 + 4 + 2 * 3 + 2 + 4;
const WORKERS: usize = 2;
const KILL: &str = "kill -9";
const DIES: &str = "dies 5 s later";
/// How each release that is no good shows what it is, and what the command must say of it.
const BROKEN: [(&str, &[&str]); 4] = [
    ("crashes at start", &["exited with code 7", "no such table: users", "the old process goes on serving"]),
    ("never listens", &["not ready after", "the old process goes on serving"]),
    ("fails its health check", &["not ready after", "the old process goes on serving"]),
    (DIES, &["exited with code 9", "out of file descriptors"]),
];

/// One app in one of its kinds.
#[derive(Debug, Deserialize)]
struct Row {
    app: String,
    graceful: bool,
    cells: Vec<Cell>,
    /// Processes that outlived the daemon.
    left: usize,
}

/// One event.
#[derive(Debug, Deserialize)]
struct Cell {
    event: String,
    answered: u64,
    failed: Vec<Failed>,
    /// Pids of the workers that served before.
    workers: Vec<i32>,
    /// Of the reload of a broken release: the command's exit code, its words, how many workers were online at the least,
    /// and how many of those before serve on.
    code: Option<i32>,
    said: Option<String>,
    least: Option<usize>,
    kept: Option<usize>,
    /// Pid of the worker that was killed.
    victim: Option<i32>,
}

/// Lets it happen under the binary under test. No words: all apps, both kinds, all events.
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
    assert!(ran.status.success(), "everything came to its end: {complaint}");
    let cells = fs::read(&cells).expect("the cells were written");
    serde_json::from_slice(&cells).expect("they are what we read")
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

    /// See the module.
    fn has_no_goodbye(&self) -> bool {
        !self.graceful && matches!(&*self.app, "net" | "ws")
    }
}

impl Cell {
    /// True of the worker that was killed, and of a canary.
    fn has_died(&self, pid: i32) -> bool {
        self.victim.map_or_else(|| !self.workers.contains(&pid), |victim| victim == pid)
    }

    /// A release that is no good costs no worker, the command fails and says why.
    fn check_release(&self) {
        let Some((_, words)) = BROKEN.into_iter().find(|(event, _)| *event == self.event) else { return };
        let said = self.said.as_deref().unwrap_or_default();
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        assert_eq!((self.least, self.kept), (Some(WORKERS), Some(WORKERS)), "{self:?}");
        assert!(words.iter().all(|word| said.contains(word)), "{self:?}");
    }
}

/// True if programs that know nothing of it can share a port here.
fn has_takeover() -> bool {
    Home::new().run("doctor").out.contains("unmodified programs share their ports")
}

#[test]
fn no_way_to_share_a_port_loses_a_request_to_any_event() {
    let events =
        "reload,scale 2→4→2,memory limit,kill -9,crashes at start,never listens,fails its health check,dies 5 s later";
    let apps = "http abrupt,http graceful,express abrupt,ws graceful,socketio abrupt";
    let apps = if has_takeover() { format!("{apps},python abrupt") } else { apps.to_owned() };
    let rows = measured(&["--brief", "--jobs", "6", "--rows", &apps, "--events", events]);
    assert_eq!(rows.len(), apps.split(',').count());
    rows.iter().for_each(Row::check);
}

#[test]
#[ignore = "long: every app, both kinds, through everything"]
fn no_app_loses_anything_to_anything() {
    let rows = measured(&["--jobs", "2"]);
    rows.iter().for_each(Row::check);
}
