//! Programs in any language share their ports, and know nothing of it.
//!
//! Which programs there are is told by the machine; what it lacks is said, and tested no further.

mod container;
mod crash;
mod edge_cases;
mod health;
mod listening;
mod nested;
mod programs;
mod socket;
mod sticky;
mod workers;
mod yama;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use crate::load::{Loads, Mode};
use crate::support::listing::Row;
use crate::support::{Home, eventually, http};

/// Requests at once, of each mode.
const CLIENTS: usize = 4;
/// The system's own, which starts faster than those of version managers.
const PYTHON: &str = "/usr/bin/python3";

/// False, with a word on it, if binds cannot be taken over here.
fn possible(home: &Home) -> bool {
    is_possible(home, "")
}

/// The same where these points are armed in the daemon, which is started here.
fn is_possible(home: &Home, points: &str) -> bool {
    let first = home.pmr(["start", "sleep 300", "-n", "first", "-i", "1", "--listen-timeout", "1"]);
    first.env("FAILPOINTS", points).run().ok();
    home.ok("delete first");
    // What was found out before stands above it: the log is written by a thread that may be behind.
    let log = home.daemon_logged("first (0) was deleted");
    let missing = log.lines().find(|line| line.contains("cannot be taken over here"));
    missing.is_none_or(skip)
}

fn skip(why: &str) -> bool {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    false
}

fn there(program: &str) -> bool {
    Path::new(program).exists() || skip(&format!("no {program}"))
}

/// Whether it is so many processes that answer at a port. Some may not listen yet.
fn answered_by(port: u16, count: usize) -> Result<(), String> {
    let pids: Result<BTreeSet<_>, _> = (0..40).map(|_| http::get(port, "/")).collect();
    let pids = pids.map_err(|error| error.to_string())?;
    if pids.len() == count { Ok(()) } else { Err(format!("{pids:?}, not {count}")) }
}

/// A cluster of a program named `it`, and its clients.
struct Fixture {
    home: Home,
    port: u16,
}

impl Fixture {
    /// `None` where it cannot be.
    fn new(words: &str) -> Option<Fixture> {
        let (home, port) = (Home::new(), http::free_port());
        if !possible(&home) {
            return None;
        }
        let fixture = Fixture { home, port };
        fixture.start(words);
        Some(fixture)
    }

    fn start(&self, words: &str) {
        let words = words.replace("PORT", &self.port.to_string());
        self.home.serve(self.port, &format!("-n it {words}"));
    }

    /// How many of so many connections each process answered.
    fn spread(&self, count: usize) -> BTreeMap<i32, usize> {
        let mut by = BTreeMap::new();
        for _ in 0..count {
            let pid = http::get(self.port, "/").expect("it answers").parse().expect("a pid");
            *by.entry(pid).or_default() += 1;
        }
        by
    }

    /// Waits until so many processes answer.
    fn shared_by(&self, count: usize) {
        eventually(&format!("{count} answer"), || answered_by(self.port, count));
    }

    /// Clients that make a connection for each request, and clients that keep theirs for a while.
    fn loads(&self) -> Loads<2> {
        Loads::start([Mode::New, Mode::Few], self.port, CLIENTS)
    }

    fn online(&self, count: usize) -> Vec<Row> {
        self.home.when("it", "online", |rows| rows.len() == count && rows.iter().all(Row::online))
    }
}
