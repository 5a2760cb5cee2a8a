//! What follows the end of a run: a restart now or later, a stop, or `errored`.

use std::time::Duration;

use super::promotion::Promotion;
use super::state::{Goal, Process, State};
use super::stopping_run::StoppingRun;
use super::transition::Transition;
use crate::protocol::{EventKind, Exit};
use crate::supervisor::input::Effect;
use crate::supervisor::restart::{Decision, End, in_words};

impl Process {
    /// The last process of the current run is gone: the goal and the way it ended decide what follows.
    pub(crate) fn run_gone(&mut self, transition: &mut Transition<'_>, stopping: &StoppingRun) {
        match (self.goal, stopping.exit, stopping.unasked) {
            (Goal::Down | Goal::Gone, ..) => self.become_stopped(transition),
            (Goal::Up, ..) if stopping.rests => self.become_idle(transition),
            (Goal::Up, _, Some(lived)) if stopping.hung => self.after_end(transition, End::Hung, lived),
            (Goal::Up, Some(exit), Some(lived)) => self.after_end(transition, End::Exited(exit), lived),
            (Goal::Up, ..) => {
                self.restarts += 1;
                self.launch(transition, None, Promotion::WhenReady);
            }
        }
    }

    pub(crate) fn after_end(&mut self, transition: &mut Transition<'_>, end: End, lived: Duration) {
        if self.goal != Goal::Up {
            return self.become_stopped(transition);
        }
        if let End::Exited(exit) = end {
            self.reason = Some(self.because(in_words(exit)));
        }
        match self.history.decide(&transition.spec.restart, end, lived, transition.now) {
            Decision::Now => {
                self.restarts += 1;
                self.launch(transition, None, Promotion::WhenReady);
            }
            Decision::After(wait) => {
                self.state = State::Waiting { until: transition.now.after(wait) };
                let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                transition.publish(self.id, EventKind::WaitingRestart { delay_ms });
            }
            Decision::StayDown => {
                self.goal = Goal::Down;
                self.completed = end == End::Exited(Exit::Code(0));
                self.launch_failed &= !self.completed;
                self.become_stopped(transition);
            }
            Decision::GiveUp => {
                self.state = State::Errored;
                let what = self.reason.take().unwrap_or_default();
                let reason = match end {
                    End::Exited(_) | End::Hung => {
                        format!("{what}; given up after {} unstable restarts", transition.spec.restart.max_restarts)
                    }
                    End::NotSpawned { .. } => what,
                };
                transition.publish(self.id, EventKind::Errored { reason: reason.clone() });
                self.reason = Some(reason);
            }
        }
    }

    /// A dependency failed, so the process is not started. A stopped process becomes `errored`; the next boot tries
    /// again.
    pub fn fail_unstarted(&mut self, transition: &mut Transition<'_>, reason: &str) {
        if self.state != State::Stopped {
            return;
        }
        (self.goal, self.state, self.completed) = (Goal::Up, State::Errored, false);
        self.reason = Some(reason.to_owned());
        transition.publish(self.id, EventKind::Errored { reason: reason.to_owned() });
    }

    /// The process is stopped once no run of it is left; until then it is stopping.
    pub(crate) fn become_stopped(&mut self, transition: &mut Transition<'_>) {
        if let Some(stopping) = self.retiring.pop() {
            self.state = State::Stopping(stopping);
            return;
        }
        self.state = State::Stopped;
        // Kept only if the whole app is down when the input has been handled.
        transition.effects.push(Effect::CloseListeners { app: self.app });
        transition.publish(self.id, if self.completed { EventKind::Completed } else { EventKind::Stopped });
    }
}
