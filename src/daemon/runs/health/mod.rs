//! HealthChecks health: one small task for each run whose app has a check, so that one that hangs delays nobody.
//!
//! A task asks soon after the start and often until the run passes for the first time, which makes it ready, and then
//! at the interval its owner set. Whose fault a failure is depends on the question: over a connection of its own a run
//! answers for itself, at an address that several share it may be another, and what a command asks nobody knows.
//!
//! A line in the output is no question to be asked: it is awaited where output is written ([`LineSearch`]), and told
//! once. What is found goes to God; what follows from it is the supervisor's business.

mod check;
mod exec;
mod output;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::check::{Question, Trouble};
use super::super::god::God;
use crate::logs::LineSearch;
use crate::protocol::Run;
use crate::spec::Health;
use crate::spec::health::{Pattern, Probe};
use crate::supervisor::{Fault, Process, State};

impl God {
    /// HealthChecks the health of a run from now on, if its app wants that, and there is something to be asked.
    pub(crate) fn check_health(&mut self, run: Run) {
        let question = self.question(run);
        if let Some((question, health)) = question {
            self.checks.begin(run, question, &health);
        }
    }

    /// The same for all that the daemon before left.
    pub(crate) fn check_health_of_all(&mut self) {
        let runs: Vec<Run> = self.supervisor.processes().flat_map(Process::staying).collect();
        runs.into_iter().for_each(|run| self.check_health(run));
    }

    fn question(&self, run: Run) -> Option<(Question, Health)> {
        let process = self.supervisor.process_of(run)?;
        let app = self.supervisor.app(process.app)?;
        let health = app.spec.health.clone()?;
        let cluster = self.clusters.get(&app.id).cloned();
        let question = match health.probe.clone() {
            Probe::Tcp { address } => Question::Tcp { cluster, address },
            // At an address that it is given, nobody answers who is not ready yet: the connection would wait with others.
            Probe::Http { address, path } => match address.filter(|address| !app.spec.is_given(address)) {
                Some(address) => Question::Http { cluster, address, path },
                None => Question::Own { cluster, run, path },
            },
            Probe::Exec(command) => Question::Exec(Box::new(self.exec(run, process, &app.spec, command)?)),
            Probe::Log(_) => return None,
        };
        Some((question, health))
    }

    /// The line that makes a run ready which was not so far, if its app awaits one.
    pub(crate) fn awaited_line(&mut self, run: Run) -> Option<Arc<LineSearch>> {
        let process = self.supervisor.process_of(run)?;
        let State::Launching { run: launching, .. } = process.state else { return None };
        let health = self.supervisor.app(process.app)?.spec.health.as_ref().filter(|_| launching == run)?;
        match &health.probe {
            Probe::Log(pattern) => Some(self.checks.await_line(run, pattern)),
            Probe::Tcp { .. } | Probe::Http { .. } | Probe::Exec(_) => None,
        }
    }
}

/// From one check to the next before the first pass, unless the interval is shorter.
const EAGER: Duration = Duration::from_millis(200);

/// What a check of a run found; `None`: all is well.
pub type Finding = (Run, Option<Fault>);

/// The checks under way.
pub struct HealthChecks {
    tasks: HashMap<Run, AbortOnDropHandle<()>>,
    lines: HashMap<Run, Arc<LineSearch>>,
    findings: mpsc::Sender<Finding>,
}

impl HealthChecks {
    /// None yet.
    #[must_use]
    pub fn new(findings: mpsc::Sender<Finding>) -> HealthChecks {
        HealthChecks { tasks: HashMap::new(), lines: HashMap::new(), findings }
    }

    /// Asks a run from now on.
    fn begin(&mut self, run: Run, mut question: Question, health: &Health) {
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
        // One from before ends.
        self.tasks.insert(run, AbortOnDropHandle::new(task));
    }

    /// The line that is awaited in the output of a run, one for all its outputs.
    fn await_line(&mut self, run: Run, pattern: &Pattern) -> Arc<LineSearch> {
        if let Some(line) = self.lines.get(&run) {
            return Arc::clone(line);
        }
        let (line, found) = LineSearch::new(pattern);
        let (line, findings) = (Arc::new(line), self.findings.clone());
        self.lines.insert(run, Arc::clone(&line));
        // Ends when the line is found, or nobody can find it any more.
        tokio::task::spawn_local(async move {
            if found.await.is_ok() {
                // Nobody hears it any more once God has ended.
                let _ = findings.send((run, None)).await;
            }
        });
        line
    }

    /// The run is on its way out.
    pub fn end(&mut self, run: Run) {
        self.tasks.remove(&run);
        if let Some(line) = self.lines.remove(&run) {
            line.give_up();
        }
    }
}
