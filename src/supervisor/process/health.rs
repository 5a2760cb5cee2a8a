//! What health checks find of a run, and what follows.

use serde::{Deserialize, Serialize};

use super::{Process, State, Transition};
use crate::protocol::{EventKind, Run};
use crate::spec::health::OnFail;
use crate::supervisor::input::Fault;

/// What the last checks of a run found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthState {
    /// Failures in a row.
    #[serde(default)]
    failures: u32,
    /// Those of them that are its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    own_failures: u32,
    /// What was wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// True from too many failures in a row to the next pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unhealthy: bool,
    /// The same, by failures of its own alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfit: bool,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl HealthState {
    pub(super) fn is_default(&self) -> bool {
        *self == HealthState::default()
    }

    /// What was wrong at the last check.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// True from too many failures in a row to the next pass.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy
    }

    /// True if it shall have no connections that another could have: its own failures alone make it unhealthy.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        self.unfit
    }

    /// One more failure. True if that makes it unhealthy, as so many in a row do once it is ready.
    fn fail(&mut self, fault: Fault, ready: bool, retries: u32) -> bool {
        let was_unhealthy = self.unhealthy;
        self.failures = self.failures.saturating_add(1);
        self.fault = Some(match fault {
            Fault::Own(fault) => {
                self.own_failures = self.own_failures.saturating_add(1);
                fault
            }
            Fault::Unattributed(fault) => fault,
        });
        self.unhealthy |= ready && self.failures >= retries;
        self.unfit |= ready && self.own_failures >= retries;
        self.unhealthy && !was_unhealthy
    }
}

impl Process {
    /// `run` was checked. The first pass makes it ready.
    pub fn checked(&mut self, transition: &mut Transition<'_>, run: Run, fault: Option<Fault>) {
        let (ready, condition) = match self.state {
            State::Launching { run: current, .. } if current == run => (false, &mut self.health),
            State::Canary { new: serving, .. } | State::Online(serving) if serving.run == run => {
                (true, &mut self.health)
            }
            State::Launching { old: Some(old), .. } | State::Canary { old, .. } if old.run == run => {
                (true, &mut self.predecessor_health)
            }
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => return,
        };
        let Some(health) = &transition.spec.health else { return };
        let (retries, told) = (health.retries, health.on_fail != OnFail::None);
        match fault {
            None => {
                if std::mem::take(condition).unhealthy && told {
                    transition.publish(self.id, EventKind::Healthy);
                }
                self.become_ready(transition, run, true);
            }
            Some(fault) => {
                if condition.fail(fault, ready, retries) && told {
                    let reason = condition.fault.clone().unwrap_or_default();
                    transition.publish(self.id, EventKind::Unhealthy { reason });
                }
            }
        }
    }

    /// The runs that are ready and were not told to go, the newest first, and what checks found of each.
    pub fn serving(&self) -> impl Iterator<Item = (Run, &HealthState)> {
        let (newest, old) = match self.state {
            State::Online(serving) => (Some(serving), None),
            State::Canary { new, old } => (Some(new), Some(old)),
            State::Launching { old, .. } => (None, old),
            State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => (None, None),
        };
        let newest = newest.map(|serving| (serving.run, &self.health));
        newest.into_iter().chain(old.map(|serving| (serving.run, &self.predecessor_health)))
    }

    /// True if the run that serves for it is unhealthy; the newer one where there are two.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.serving().next().is_some_and(|(_, condition)| condition.is_unhealthy())
    }
}
