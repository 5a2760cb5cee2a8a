//! What health checks find of a run, and what follows.

use super::health_state::HealthState;
use super::state::{Process, State};
use super::transition::Transition;
use crate::protocol::{EventKind, Run};
use crate::spec::health::OnFail;
use crate::supervisor::input::Fault;

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
        let (retries, publishes) = (health.retries, health.on_fail != OnFail::None);
        match fault {
            None => {
                if std::mem::take(condition).is_unhealthy() && publishes {
                    transition.publish(self.id, EventKind::Healthy);
                }
                self.become_ready(transition, run, true);
            }
            Some(fault) => {
                if condition.fail(fault, ready, retries) && publishes {
                    let reason = condition.fault().unwrap_or_default().to_owned();
                    transition.publish(self.id, EventKind::Unhealthy { reason });
                }
            }
        }
    }

    /// The ready runs that are not stopping, the newest first, with the health of each.
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
