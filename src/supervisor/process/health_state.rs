//! What health checks found of a run.

use serde::{Deserialize, Serialize};

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
    pub(super) fn fail(&mut self, fault: Fault, ready: bool, retries: u32) -> bool {
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
