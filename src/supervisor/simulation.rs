//! Thousands of random lives of the supervisor in virtual time, with the invariants checked after every input.
//!
//! Everything is random but repeatable: requests, crashes, programs that ignore signals, leftovers, failed starts, late and stale reports,
//! early and late ticks, jumps of the clock, deaths of the daemon. A failing history names its seed; `PMR_SIM_SEED=17 cargo test simulation`
//! lives that one again and prints its course, `PMR_SIM_HISTORIES=1000000` lives more.
//!
//! Then the world calms down and all must come to rest with every ticket answered, the last word of the operator must
//! hold, a shutdown must leave nothing alive, and what was saved before must come back.

mod coverage;
mod crash;
mod health_observer;
mod history;
mod invariants;
mod observer;
mod os;
mod quiescence;
mod reload_atomicity;
mod rng;
mod sequence;
mod workload;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::Snapshot;
use coverage::Coverage;
use history::History;

const HISTORIES: u64 = 20_000;
/// One failed history ends the lives of all.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Says which history it was when one fails.
struct Witness {
    seed: u64,
    history: History,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
            let course = self.history.trace.take().unwrap_or_default().join("\n");
            let _ = writeln!(std::io::stderr(), "{course}\nlive it again with PMR_SIM_SEED={}", self.seed);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Lives the histories of these seeds.
fn live(seeds: impl Iterator<Item = u64>, traced: bool) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds.take_while(|_| !FAILED.load(Ordering::Relaxed)) {
        let mut witness = Witness { seed, history: History::new(seed, traced) };
        witness.history.live();
        coverage.add(&witness.history.coverage);
    }
    coverage
}

#[test]
fn random_histories_keep_every_invariant() {
    let seed = number("PMR_SIM_SEED");
    let first = seed.unwrap_or(1);
    let count = number("PMR_SIM_HISTORIES").unwrap_or(if seed.is_some() { 1 } else { HISTORIES });
    let lanes = thread::available_parallelism().map_or(1, |lanes| lanes.get() as u64);
    let start = |lane| thread::spawn(move || live((first + lane..first + count).step_by(lanes as usize), count == 1));
    let threads: Vec<_> = (0..lanes).map(start).collect();
    let mut coverage = Coverage::default();
    for thread in threads {
        match thread.join() {
            Ok(part) => coverage.add(&part),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let _ = writeln!(std::io::stdout(), "{}", coverage.table());
    assert!(coverage.unexpected().is_empty(), "reached against expectation: {:?}", coverage.unexpected());
    assert!(count < HISTORIES || coverage.holes().is_empty(), "never reached: {:?}", coverage.holes());
}
