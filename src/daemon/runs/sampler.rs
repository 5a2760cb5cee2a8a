//! Readings of memory, taken while some app has a limit.

use std::time::Duration;

use tokio::time::Instant;

use super::table::RunTable;
use crate::os::process::proc;
use crate::protocol::Run;
use crate::supervisor::{Input, Supervisor};

/// From one reading to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// Knows when the next reading is due.
pub(crate) struct Sampler {
    next: Instant,
}

impl Sampler {
    /// The first reading is due after one interval.
    pub fn new() -> Sampler {
        Sampler { next: Instant::now() + INTERVAL }
    }

    /// When to read next; `None` while no app has a limit.
    pub fn deadline(&self, supervisor: &Supervisor) -> Option<Instant> {
        supervisor.apps().any(|app| app.spec.restart.max_memory.is_some()).then_some(self.next)
    }

    /// The resident memory of the trees of all runs. Reads `/proc` once for all.
    pub fn sample(&mut self, runs: &mut RunTable) -> Vec<Input> {
        self.next = Instant::now() + INTERVAL;
        let roots: Vec<(Run, i32)> = runs.running().map(|(run, live)| (run, live.pid)).collect();
        let usage = proc::usage(&roots.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
        let memory = |pid: i32| usage.get(&pid).map_or(0, |(_, resident)| *resident);
        roots.into_iter().map(|(run, pid)| Input::Sampled { run, memory: memory(pid) }).collect()
    }
}
