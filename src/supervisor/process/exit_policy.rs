//! What comes after a run: another, now or later, or none.

use std::time::Duration;

use super::{Departure, Goal, Process, Scene, State, Takeover};
use crate::protocol::{EventKind, Exit};
use crate::supervisor::restart::{Decision, End, in_words};

impl Process {
    /// The run that the state is about is gone.
    pub(crate) fn departed(&mut self, scene: &mut Scene<'_>, departure: &Departure) {
        match (self.goal, departure.exit, departure.unasked) {
            (Goal::Down | Goal::Gone, ..) => self.settle_down(scene),
            (Goal::Up, ..) if departure.rests => self.lie_down(scene),
            (Goal::Up, _, Some(lived)) if departure.hung => self.after_end(scene, End::Hung, lived),
            (Goal::Up, Some(exit), Some(lived)) => self.after_end(scene, End::Exited(exit), lived),
            (Goal::Up, ..) => {
                self.restarts += 1;
                self.launch(scene, None, Takeover::WhenReady);
            }
        }
    }

    pub(crate) fn after_end(&mut self, scene: &mut Scene<'_>, end: End, lived: Duration) {
        if self.goal != Goal::Up {
            return self.settle_down(scene);
        }
        if let End::Exited(exit) = end {
            self.reason = Some(self.because(in_words(exit)));
        }
        match self.history.decide(&scene.spec.restart, end, lived, scene.now) {
            Decision::Now => {
                self.restarts += 1;
                self.launch(scene, None, Takeover::WhenReady);
            }
            Decision::After(wait) => {
                self.state = State::Waiting { until: scene.now.after(wait) };
                let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                scene.publish(self.id, EventKind::WaitingRestart { delay_ms });
            }
            Decision::StayDown => {
                self.goal = Goal::Down;
                self.completed = end == End::Exited(Exit::Code(0));
                self.launch_failed &= !self.completed;
                self.settle_down(scene);
            }
            Decision::GiveUp => {
                self.state = State::Errored;
                let what = self.reason.take().unwrap_or_default();
                let reason = match end {
                    End::Exited(_) | End::Hung => {
                        format!("{what}; given up after {} unstable restarts", scene.spec.restart.max_restarts)
                    }
                    End::NotSpawned { .. } => what,
                };
                scene.publish(self.id, EventKind::Errored { reason: reason.clone() });
                self.reason = Some(reason);
            }
        }
    }

    /// It was to be started, and what it depends on will not come: if nothing of it runs, it is given up.
    pub fn forsake(&mut self, scene: &mut Scene<'_>, reason: &str) {
        if self.state != State::Stopped {
            return;
        }
        (self.goal, self.state, self.completed) = (Goal::Up, State::Errored, false);
        self.reason = Some(reason.to_owned());
        scene.publish(self.id, EventKind::Errored { reason: reason.to_owned() });
    }

    /// It is stopped when nothing of it runs: until then it is about what is still on its way out.
    pub(crate) fn settle_down(&mut self, scene: &mut Scene<'_>) {
        if let Some(departure) = self.retiring.pop() {
            self.state = State::Stopping(departure);
            return;
        }
        self.state = State::Stopped;
        scene.publish(self.id, if self.completed { EventKind::Completed } else { EventKind::Stopped });
    }
}
