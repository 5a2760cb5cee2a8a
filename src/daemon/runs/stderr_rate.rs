//! What canaries and the workers beside them write to standard error, counted while they are judged by it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::super::god::God;
use crate::logs::LineCounter;
use crate::protocol::Run;
use crate::supervisor::Input;

/// How often a canary is judged by what was counted.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// A tally for each run.
#[derive(Debug, Default)]
pub(crate) struct StderrRates {
    tallies: HashMap<Run, Arc<LineCounter>>,
    /// Some of them are on.
    counting: bool,
}

impl StderrRates {
    /// That of this run's standard error.
    pub fn of(&mut self, run: Run) -> Arc<LineCounter> {
        Arc::clone(self.tallies.entry(run).or_default())
    }

    /// The run has ended.
    pub fn forget(&mut self, run: Run) {
        self.tallies.remove(&run);
    }
}

impl God {
    /// True if there is something to be counted, or to be counted no more.
    pub(crate) fn counts_complaints(&self) -> bool {
        self.stderr_rates.counting || self.supervisor.judged_by_errors().next().is_some()
    }

    /// Tells what was counted, and counts for whoever is judged from now on.
    pub(crate) fn count_complaints(&mut self) {
        let judged: BTreeSet<Run> = self.supervisor.judged_by_errors().collect();
        self.stderr_rates.counting = !judged.is_empty();
        let mut told = Vec::new();
        for (run, tally) in &self.stderr_rates.tallies {
            tally.turn(judged.contains(run));
            told.push(Input::StderrLines { run: *run, lines: tally.take() });
        }
        told.retain(|input| !matches!(input, Input::StderrLines { lines: 0, .. }));
        self.all_inputs(told);
    }
}
