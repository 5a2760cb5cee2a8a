//! What a request does to a process.

use super::promotion::Promotion;
use super::state::{Goal, Process, State};
use super::transition::Transition;
use crate::spec::ExecMode;
use crate::supervisor::moment::Moment;

impl Process {
    /// Starts the process, unless it runs.
    pub(super) fn start(&mut self, transition: &mut Transition<'_>) {
        self.goal = Goal::Up;
        match self.state {
            State::Stopped | State::Waiting { .. } | State::Idle | State::Errored => {
                self.forget_failures();
                self.launch(transition, None, Promotion::WhenReady);
            }
            State::Launching { .. } | State::Canary { .. } | State::Online(_) | State::Stopping(_) => {}
        }
    }

    /// Stops the process. With `drain` a ready run may first finish its requests; a second stop ends the drain.
    pub fn stop(&mut self, transition: &mut Transition<'_>, goal: Goal, drain: bool) {
        self.goal = if self.goal == Goal::Gone { Goal::Gone } else { goal };
        self.reason = None;
        self.completed = false;
        self.end_drains(transition);
        self.begin_stop(transition, drain);
    }

    /// Stops it and starts it again.
    pub fn restart(&mut self, transition: &mut Transition<'_>) {
        self.goal = Goal::Up;
        match &mut self.state {
            State::Launching { .. } | State::Canary { .. } | State::Online(_) => {
                self.forget_failures();
                self.end_drains(transition);
                // Connections in its queue are not refused, and open requests are answered first.
                self.begin_stop(transition, true);
            }
            State::Stopping(stopping) => {
                // Whatever ended the run, the process starts again at once: a client requested it.
                (stopping.unasked, stopping.rests) = (None, false);
                self.forget_failures();
                self.end_drains(transition);
            }
            State::Stopped | State::Waiting { .. } | State::Idle | State::Errored => self.start(transition),
        }
    }

    /// Replaces a ready cluster worker by a successor; restarts or starts anything else. An idle process stays idle: it
    /// starts with the new spec when the next client connects.
    pub fn reload(&mut self, transition: &mut Transition<'_>, promotion: Promotion) {
        if self.rests() && self.goal == Goal::Up && transition.spec.activation.idle_timeout.is_some() {
            return;
        }
        match self.state {
            State::Online(serving) if transition.spec.mode == ExecMode::Cluster => {
                self.goal = Goal::Up;
                self.forget_failures();
                self.restarts += 1;
                self.launch(transition, Some(serving), promotion);
            }
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => self.restart(transition),
        }
    }

    /// Sets the counters to zero.
    pub fn reset(&mut self, now: Moment) {
        self.restarts = 0;
        self.created = now;
        self.history.clear();
    }
}
