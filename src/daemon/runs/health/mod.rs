//! Checks of health: one small task for each run whose app has a check, so that one that hangs delays no other.
//!
//! A task asks soon after the start, and often until the run passes for the first time, which makes it ready; then at
//! the interval its owner set. What a failure says depends on the question. Over a connection of its own a run answers
//! for itself. At an address that several runs share another may have answered. What a command asks is not known.
//!
//! A line in the output is not asked for: it is awaited where output is written ([`LineSearch`]), and reported once.
//! Findings go to God; what follows from them is the supervisor's business.

mod check;
mod exec;
mod output;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::check::Question;
use self::check::Trouble;
pub(crate) use self::exec::{CommandCheck, Exec};
use crate::logs::LineSearch;
use crate::protocol::Run;
use crate::spec::Health;
use crate::spec::health::{Pattern, Probe};
use crate::supervisor::{Fault, State, Supervisor};

/// From one check to the next before the first pass, unless the interval is shorter.
const EAGER: Duration = Duration::from_millis(200);

/// The finding of a check; without a fault the run passed.
pub(crate) type Finding = (Run, Option<Fault>);

/// The checks under way, at most one for each run.
pub(crate) struct HealthChecks {
    tasks: HashMap<Run, AbortOnDropHandle<()>>,
    lines: HashMap<Run, Arc<LineSearch>>,
    findings: mpsc::Sender<Finding>,
}

impl HealthChecks {
    /// No check yet. What they find goes to `findings`.
    #[must_use]
    pub fn new(findings: mpsc::Sender<Finding>) -> HealthChecks {
        HealthChecks { tasks: HashMap::new(), lines: HashMap::new(), findings }
    }

    /// Asks a run from now on, in place of a check of it before.
    pub fn begin(&mut self, run: Run, mut question: Question, health: &Health) {
        let findings = self.findings.clone();
        let (interval, timeout) = (health.interval, health.timeout);
        let task = tokio::task::spawn_local(async move {
            let mut pause = EAGER.min(interval);
            loop {
                tokio::time::sleep(pause).await;
                let found = match question.ask(timeout).await {
                    Ok(()) => {
                        pause = interval;
                        None
                    }
                    Err(Trouble::Fault(fault)) => Some(fault),
                    Err(Trouble::Unasked) => continue,
                };
                if findings.send((run, found)).await.is_err() {
                    return;
                }
            }
        });
        // A check that was there before is aborted.
        self.tasks.insert(run, AbortOnDropHandle::new(task));
    }

    /// The line in its output that makes a run ready, if its app waits for one and the run is launching.
    pub fn awaited_line(&mut self, run: Run, supervisor: &Supervisor) -> Option<Arc<LineSearch>> {
        let process = supervisor.process_of(run)?;
        let State::Launching { run: launching, .. } = process.state else { return None };
        let health = supervisor.app(process.app)?.spec.health.as_ref().filter(|_| launching == run)?;
        match &health.probe {
            Probe::Log(pattern) => Some(self.await_line(run, pattern)),
            Probe::Tcp { .. } | Probe::Http { .. } | Probe::Exec(_) => None,
        }
    }

    /// One line is awaited for all outputs of a run.
    fn await_line(&mut self, run: Run, pattern: &Pattern) -> Arc<LineSearch> {
        if let Some(line) = self.lines.get(&run) {
            return Arc::clone(line);
        }
        let (line, found) = LineSearch::new(pattern);
        let (line, findings) = (Arc::new(line), self.findings.clone());
        self.lines.insert(run, Arc::clone(&line));
        // Ends when the line is found, or the last output that could have it has ended.
        tokio::task::spawn_local(async move {
            if found.await.is_ok() {
                // It fails once God has ended.
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
