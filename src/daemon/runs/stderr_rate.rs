//! Lines on standard error: counted of canaries and of the workers beside them, while a canary is judged by them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::logs::LineCounter;
use crate::protocol::Run;
use crate::supervisor::{Input, Supervisor};

/// How often a canary is judged by what was counted.
const INTERVAL: Duration = Duration::from_millis(500);

/// A counter for each run, which counts while the run is judged.
#[derive(Debug)]
pub(crate) struct StderrRates {
    counters: HashMap<Run, Arc<LineCounter>>,
    /// True while some counters are on.
    counting: bool,
    next: Instant,
}

impl StderrRates {
    /// No counter yet. The first reading is due at once.
    pub fn new() -> StderrRates {
        StderrRates { counters: HashMap::new(), counting: false, next: Instant::now() }
    }

    /// The counter of a run's standard error.
    pub fn counter(&mut self, run: Run) -> Arc<LineCounter> {
        Arc::clone(self.counters.entry(run).or_default())
    }

    /// The run has ended.
    pub fn forget(&mut self, run: Run) {
        self.counters.remove(&run);
    }

    /// When to read the counters next; `None` if no run is judged and all counters are off.
    pub fn deadline(&self, supervisor: &Supervisor) -> Option<Instant> {
        (self.counting || supervisor.judged_by_errors().next().is_some()).then_some(self.next)
    }

    /// The lines since the last reading, of runs that wrote any. Counters of runs that are judged from now on are turned
    /// on, the others off.
    pub fn count(&mut self, supervisor: &Supervisor) -> Vec<Input> {
        self.next = Instant::now() + INTERVAL;
        let judged: BTreeSet<Run> = supervisor.judged_by_errors().collect();
        self.counting = !judged.is_empty();
        let mut inputs = Vec::new();
        for (run, counter) in &self.counters {
            counter.turn(judged.contains(run));
            let lines = counter.take();
            if lines > 0 {
                inputs.push(Input::StderrLines { run: *run, lines });
            }
        }
        inputs
    }
}
