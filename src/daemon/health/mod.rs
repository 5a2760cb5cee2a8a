//! Checks health: one small task for each run whose app has a check, so that one that hangs delays nobody.
//!
//! A task asks soon after the start and often until the run passes for the first time, which makes it ready, and then
//! at the interval its owner set. What is found goes to God; what follows from it is the supervisor's business.

mod check;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::check::Trouble;
use super::god::God;
use crate::cluster::Cluster;
use crate::protocol::Run;
use crate::spec::Health;
use crate::supervisor::Process;

impl God {
    /// Checks the health of a run from now on, if its app wants that.
    pub(super) fn check_health(&mut self, run: Run) {
        let app = self.supervisor.process_of(run).and_then(|process| self.supervisor.app(process.app));
        if let Some((app, health)) = app.and_then(|app| Some((app.id, app.spec.health.clone()?))) {
            self.checks.begin(run, health, self.clusters.get(&app).cloned());
        }
    }

    /// The same for all that the daemon before left.
    pub(super) fn check_health_of_all(&mut self) {
        let runs: Vec<Run> = self.supervisor.processes().flat_map(Process::staying).collect();
        runs.into_iter().for_each(|run| self.check_health(run));
    }
}

/// From one check to the next before the first pass, unless the interval is shorter.
const EAGER: Duration = Duration::from_millis(200);

/// What a check of a run found; `None`: all is well.
pub type Finding = (Run, Option<String>);

/// The checks under way.
pub struct Checks {
    tasks: HashMap<Run, AbortHandle>,
    findings: mpsc::Sender<Finding>,
}

impl Checks {
    /// None yet.
    #[must_use]
    pub fn new(findings: mpsc::Sender<Finding>) -> Checks {
        Checks { tasks: HashMap::new(), findings }
    }

    /// Checks a run from now on. `cluster` hands connections to it, if it takes some.
    pub fn begin(&mut self, run: Run, health: Health, cluster: Option<Cluster>) {
        let findings = self.findings.clone();
        let task = tokio::task::spawn_local(async move {
            let mut pause = EAGER.min(health.interval);
            loop {
                tokio::time::sleep(pause).await;
                let asked =
                    tokio::time::timeout(health.timeout, check::ask(&health.probe, run, cluster.as_ref())).await;
                let slow = || Trouble::Fault(format!("no answer in {} ms", health.timeout.as_millis()));
                let found = match asked.unwrap_or_else(|_| Err(slow())) {
                    Ok(()) => {
                        pause = health.interval;
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
        if let Some(before) = self.tasks.insert(run, task.abort_handle()) {
            before.abort();
        }
    }

    /// The run is on its way out.
    pub fn end(&mut self, run: Run) {
        if let Some(task) = self.tasks.remove(&run) {
            task.abort();
        }
    }
}
