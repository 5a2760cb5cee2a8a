//! What health checks find of a run, and what follows.

use serde::{Deserialize, Serialize};

use super::{Process, Scene, State};
use crate::protocol::{EventKind, Run};
use crate::spec::health::OnFail;

/// What the last checks of a run found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Failures in a row.
    #[serde(default)]
    failures: u32,
    /// What was wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// True from too many failures in a row to the next pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unhealthy: bool,
}

impl Condition {
    pub(super) fn is_default(&self) -> bool {
        *self == Condition::default()
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
}

impl Process {
    /// `run` was checked. The first pass makes it ready.
    pub fn checked(&mut self, scene: &mut Scene<'_>, run: Run, fault: Option<String>) {
        let ready = match self.state {
            State::Launching { run: current, .. } if current == run => false,
            State::Trial { new: serving, .. } | State::Online(serving) if serving.run == run => true,
            State::Stopped
            | State::Launching { .. }
            | State::Trial { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => return,
        };
        let Some(health) = &scene.spec.health else { return };
        let (retries, told) = (health.retries, health.on_fail != OnFail::None);
        match fault {
            None => {
                if std::mem::take(&mut self.condition).unhealthy && told {
                    scene.publish(self.id, EventKind::Healthy);
                }
                self.become_ready(scene, run, true);
            }
            Some(fault) => {
                self.condition.failures = self.condition.failures.saturating_add(1);
                if ready && !self.condition.unhealthy && self.condition.failures >= retries {
                    self.condition.unhealthy = true;
                    if told {
                        scene.publish(self.id, EventKind::Unhealthy { reason: fault.clone() });
                    }
                }
                self.condition.fault = Some(fault);
            }
        }
    }
}
