//! A random walk through all operations and faults, in an order that a seed decides. Daemons and workers are killed,
//! programs are exchanged, apps are reloaded, scaled, stopped and started, and the disk fills up, all under load.
//! Nothing may be lost, duplicated or left behind.
//!
//! `cargo test --test chaos` runs a short walk. To run a long walk, or a failed one again:
//!
//! ```text
//! PMR_CHAOS_STEPS=400 PMR_CHAOS_SEED=7 cargo test --test chaos -- --ignored --nocapture
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the history of a failed walk has to be shown")]

mod disk;
mod history;
mod log_gaps;
mod step;
mod system;

#[allow(dead_code, reason = "shared with the tests of real Node apps, which use all of it")]
#[path = "../cluster/load.rs"]
mod load;
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/support/mod.rs"]
mod support;

use std::time::Duration;

use history::History;
use step::Step;
use system::System;

/// Number of steps between two checks of the whole system.
const CHECK_INTERVAL: usize = 10;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn walk(seed: u64, steps: usize) {
    let mut history = History::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut system = System::new();
    let per_step = u32::try_from(steps).map_or(Duration::MAX, |steps| Duration::from_secs(10) * steps);
    system.limit(Duration::from_secs(60).saturating_add(per_step));
    system.checkpoint(&mut history);
    let mut left = steps;
    while left > 0 {
        system.start_load();
        for _ in 0..left.min(CHECK_INTERVAL) {
            let step = Step::random(&mut rng);
            history.begin(&step);
            system.apply(&step);
            system.check_untouched();
        }
        left -= left.min(CHECK_INTERVAL);
        system.checkpoint(&mut history);
    }
    history.finish();
    system.close();
}

#[test]
fn a_short_random_walk_keeps_all_invariants() {
    walk(number("PMR_CHAOS_SEED", 1), 20);
}

#[test]
#[ignore = "long: as many steps as PMR_CHAOS_STEPS says"]
fn a_long_random_walk_keeps_all_invariants() {
    let steps = number("PMR_CHAOS_STEPS", 200);
    walk(number("PMR_CHAOS_SEED", 1), usize::try_from(steps).expect("it is small"));
}
