//! Health checks: one small task for each run whose app has a check, so that a check that hangs delays no other.
//!
//! A task checks soon after the start, and often until the run passes for the first time, which makes the run ready; then
//! at the interval in the spec. What a failure means depends on the kind of check. A check over a connection of its own
//! says something about this run. At an address that several runs share, another run may have answered. Which run a
//! command checks is not known.
//!
//! There is no task for a line in the output: the log pump looks for the line ([`LineSearch`]), and it is reported once.
//! Findings go to God, and the supervisor decides what follows.

mod check;
mod exec;
mod output;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::check::CheckError;
pub(crate) use self::check::HealthCheck;
pub(crate) use self::exec::{CommandCheck, Exec};
use crate::logs::LineSearch;
use crate::protocol::Run;
use crate::spec::Health;
use crate::spec::health::{Pattern, Probe};
use crate::supervisor::{Fault, State, Supervisor};

/// From one check to the next until the first pass, unless the interval in the spec is shorter.
const LAUNCH_INTERVAL: Duration = Duration::from_millis(200);

/// The finding of a check; without a fault the run passed.
pub(crate) type Finding = (Run, Option<Fault>);

/// The tasks and awaited lines of all runs, at most one of each for a run.
pub(crate) struct HealthChecks {
    tasks: HashMap<Run, AbortOnDropHandle<()>>,
    lines: HashMap<Run, Arc<LineSearch>>,
    findings: mpsc::Sender<Finding>,
}

impl HealthChecks {
    /// No check yet. Findings are sent to `findings`.
    #[must_use]
    pub fn new(findings: mpsc::Sender<Finding>) -> HealthChecks {
        HealthChecks { tasks: HashMap::new(), lines: HashMap::new(), findings }
    }

    /// Checks a run from now on; an earlier check of the run ends.
    pub fn begin(&mut self, run: Run, mut check: HealthCheck, health: &Health) {
        let findings = self.findings.clone();
        let (interval, timeout) = (health.interval, health.timeout);
        let task = tokio::task::spawn_local(async move {
            let mut pause = LAUNCH_INTERVAL.min(interval);
            loop {
                tokio::time::sleep(pause).await;
                let found = match check.run(timeout).await {
                    Ok(()) => {
                        pause = interval;
                        None
                    }
                    Err(CheckError::Fault(fault)) => Some(fault),
                    Err(CheckError::NotChecked) => continue,
                };
                if findings.send((run, found)).await.is_err() {
                    return;
                }
            }
        });
        // Replaces, and so aborts, the task of an earlier check.
        self.tasks.insert(run, AbortOnDropHandle::new(task));
    }

    /// The line whose appearance in the output makes the run ready, if its app waits for one and the run is launching.
    pub fn awaited_line(&mut self, run: Run, supervisor: &Supervisor) -> Option<Arc<LineSearch>> {
        let process = supervisor.process_of(run)?;
        let State::Launching { run: launching, .. } = process.state else { return None };
        let health = supervisor.app(process.app)?.spec.health.as_ref().filter(|_| launching == run)?;
        match &health.probe {
            Probe::Log(pattern) => Some(self.await_line(run, pattern)),
            Probe::Tcp { .. } | Probe::Http { .. } | Probe::Exec(_) => None,
        }
    }

    /// The awaited line of a run; its standard output and standard error share it.
    fn await_line(&mut self, run: Run, pattern: &Pattern) -> Arc<LineSearch> {
        if let Some(line) = self.lines.get(&run) {
            return Arc::clone(line);
        }
        let (line, found) = LineSearch::new(pattern);
        let (line, findings) = (Arc::new(line), self.findings.clone());
        self.lines.insert(run, Arc::clone(&line));
        // Ends when the line is found, or when the last output in which it could be has ended.
        tokio::task::spawn_local(async move {
            if found.await.is_ok() {
                // Fails once God has ended.
                let _ = findings.send((run, None)).await;
            }
        });
        line
    }

    /// The run stops or has ended: its check ends.
    pub fn end(&mut self, run: Run) {
        self.tasks.remove(&run);
        if let Some(line) = self.lines.remove(&run) {
            line.give_up();
        }
    }
}
