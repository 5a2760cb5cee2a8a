//! Programs in any language share their ports, and know nothing of it.
//!
//! Which programs there are is told by the machine; what it lacks is said, and tested no further.

mod crash;
mod going;
mod health;
mod listening;
mod odd;
mod programs;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::load::{Kind, Load, Mode, Tally};
use crate::support::listing::Row;
use crate::support::{Home, http};

/// Requests at once, of each mode.
const CLIENTS: usize = 4;
/// The system's own, which starts faster than those of version managers.
const PYTHON: &str = "/usr/bin/python3";

/// False, with a word on it, if binds cannot be taken over here.
fn possible(home: &Home) -> bool {
    home.pmr(["start", "sleep 300", "-n", "first", "-i", "1", "--listen-timeout", "1"]).run().ok();
    home.ok("delete first");
    let log = std::fs::read_to_string(home.root().join("pmr.log")).unwrap();
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

/// A cluster of a program named `it`, and its clients.
struct Town {
    home: Home,
    port: u16,
}

impl Town {
    /// `None` where it cannot be.
    fn new(words: &str) -> Option<Town> {
        let (home, port) = (Home::new(), http::free_port());
        if !possible(&home) {
            return None;
        }
        let town = Town { home, port };
        town.start(words);
        Some(town)
    }

    fn start(&self, words: &str) {
        let words = words.replace("PORT", &self.port.to_string());
        let line = format!("start -n it --listen-timeout 30s {words}");
        self.home.pmr(line.split_whitespace()).env("PORT", self.port.to_string()).run().ok();
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

    fn loads(&self) -> Loads {
        let mut loads = [Mode::New, Mode::Few].map(|mode| Load::start(Kind::Http, mode, self.port, CLIENTS));
        for load in &mut loads {
            load.until("it answers", |tally| tally.answered > 20);
        }
        Loads(loads)
    }

    fn online(&self, count: usize) -> Vec<Row> {
        self.home.when("it", "online", |rows| rows.len() == count && rows.iter().all(Row::online))
    }
}

/// Clients that make a connection for each request, and clients that keep theirs for a while.
struct Loads([Load; 2]);

impl Loads {
    fn are_served(&mut self) {
        for load in &mut self.0 {
            let before = load.tally().answered;
            load.until("requests are answered", |tally| tally.answered > before + 20);
        }
    }

    fn stop(self) -> [Tally; 2] {
        self.0.map(Load::stop)
    }

    /// They go, and each request was answered.
    #[track_caller]
    fn leave_content(self) {
        for tally in self.stop() {
            assert!(tally.failed.is_empty(), "of {} requests failed {:?}", tally.answered, tally.failed);
        }
    }
}
