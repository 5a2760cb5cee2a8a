//! Which runs are in rotation, as an observer sees it that knows the checks and the effects alone.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use crate::protocol::Run;
use crate::supervisor::{App, Fault, Input, Process, State, Supervisor};

/// What checks have found of each run.
#[derive(Clone, Default)]
pub struct HealthObserver(BTreeMap<Run, Findings>);

#[derive(Clone, Default)]
struct Findings {
    /// Failures of its own since the last pass.
    failures: u32,
    /// Out of order, from the failure that was one too many to the next pass.
    ill: bool,
}

impl HealthObserver {
    /// Takes note of a check, before the supervisor hears of it.
    pub fn note(&mut self, supervisor: &Supervisor, input: &Input) {
        let Input::Checked { run, fault } = input else { return };
        let Some(process) = supervisor.process_of(*run).filter(|process| process.staying().any(|it| it == *run)) else {
            return;
        };
        let Some(health) = &supervisor.apps[&process.app].spec.health else { return };
        match fault {
            None => drop(self.0.remove(run)),
            Some(Fault::Own(_)) => {
                let findings = self.0.entry(*run).or_default();
                findings.failures += 1;
                findings.ill |= ready(process).contains(run) && findings.failures >= health.retries;
            }
            Some(Fault::Unattributed(_)) => {}
        }
    }

    fn is_ill(&self, run: Run) -> bool {
        self.0.get(&run).is_some_and(|findings| findings.ill)
    }
}

/// The runs that are ready and shall stay.
fn ready(process: &Process) -> Vec<Run> {
    match process.state {
        State::Online(serving) => vec![serving.run],
        State::Canary { new, old } => vec![new.run, old.run],
        State::Launching { old, .. } => old.into_iter().map(|old| old.run).collect(),
        State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => vec![],
    }
}

impl History {
    /// The healthy ones of the ready runs are in rotation, or all if none is healthy, and so at least one.
    pub(super) fn check_rotation(&mut self) {
        for app in self.supervisor.apps.values() {
            let ready: BTreeSet<Run> = self.supervisor.members(app.id).flat_map(ready).collect();
            let wanted = self.wanted_in_rotation(app, &ready);
            let rotates = |run: &&Run| self.os.bodies.get(*run).is_some_and(|body| body.rotates);
            let rotation: BTreeSet<Run> = ready.iter().filter(rotates).copied().collect();
            assert_eq!(rotation, wanted, "the wrong ones of {ready:?} are in rotation: {app:?}");
            let ill = ready.iter().filter(|run| self.health_observer.is_ill(**run)).count();
            self.coverage.rotation(ready.len(), ill, wanted.len());
        }
    }

    fn wanted_in_rotation(&self, app: &App, ready: &BTreeSet<Run>) -> BTreeSet<Run> {
        let well: BTreeSet<Run> = ready.iter().copied().filter(|run| !self.health_observer.is_ill(*run)).collect();
        if well.is_empty() || !app.spec.checks_each_worker() { ready.clone() } else { well }
    }
}
