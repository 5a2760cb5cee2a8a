//! Bind interception: unmodified programs in any language share their ports.
//!
//! Tests of programs that this machine lacks are skipped with a message.

mod container;
mod crash;
mod edge_cases;
mod health;
mod listening;
mod loading;
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

/// Concurrent clients of each mode.
const CLIENTS: usize = 4;
/// The Python of the system, which starts faster than those of version managers.
const PYTHON: &str = "/usr/bin/python3";

/// Whether binds can be intercepted here. If not, prints the reason.
fn possible(home: &Home) -> bool {
    is_possible(home, "")
}

/// The same with these kill points armed in the daemon, which is started here.
fn is_possible(home: &Home, points: &str) -> bool {
    let first = home.pmr(["start", "sleep 300", "-n", "first", "-i", "1", "--listen-timeout", "1"]);
    first.env("FAILPOINTS", points).run().ok();
    home.ok("delete first");
    // The reason is above this line in the log, which a thread writes with a delay.
    let log = home.daemon_logged("first (0) was deleted");
    let missing = log.lines().find(|line| line.contains("cannot be intercepted here"));
    missing.is_none_or(skip)
}

fn skip(why: &str) -> bool {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    false
}

fn there(program: &str) -> bool {
    Path::new(program).exists() || skip(&format!("no {program}"))
}

/// Checks that exactly this number of processes answers at a port. Some may not listen yet.
fn answered_by(port: u16, count: usize) -> Result<(), String> {
    let pids: Result<BTreeSet<_>, _> = (0..40).map(|_| http::get(port, "/")).collect();
    let pids = pids.map_err(|error| error.to_string())?;
    if pids.len() == count { Ok(()) } else { Err(format!("{pids:?}, not {count}")) }
}

/// The clustered app `it`, its port and its load.
struct Fixture {
    home: Home,
    port: u16,
}

impl Fixture {
    /// Starts the app. `None` where binds cannot be intercepted.
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

    /// Opens `count` connections, and returns how many of them each process answered.
    fn spread(&self, count: usize) -> BTreeMap<i32, usize> {
        let mut by = BTreeMap::new();
        for _ in 0..count {
            let pid = http::get(self.port, "/").expect("it answers").parse().expect("a pid");
            *by.entry(pid).or_default() += 1;
        }
        by
    }

    /// Waits until exactly this number of processes answers.
    fn shared_by(&self, count: usize) {
        eventually(&format!("{count} answer"), || answered_by(self.port, count));
    }

    /// Clients that open a connection for each request, and clients that keep connections for some requests.
    fn loads(&self) -> Loads<2> {
        Loads::start([Mode::New, Mode::Few], self.port, CLIENTS)
    }

    fn online(&self, count: usize) -> Vec<Row> {
        self.home.when("it", "online", |rows| rows.len() == count && rows.iter().all(Row::online))
    }
}
