//! What a request does to a process.

use super::promotion::Promotion;
use super::state::{Goal, Process, State};
use super::transition::Transition;
use crate::spec::ExecMode;
use crate::supervisor::moment::Moment;

impl Process {
    /// Brings it up, if it is not.
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

    /// Takes it down. With `drain` a ready run may first finish what it has; told again, it may not.
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
                // However it came to its end, it starts again now: a person asked.
                (stopping.unasked, stopping.rests) = (None, false);
                self.forget_failures();
                self.end_drains(transition);
            }
            State::Stopped | State::Waiting { .. } | State::Idle | State::Errored => self.start(transition),
        }
    }

    /// Replaces a ready cluster worker by a successor; restarts or starts anything else. What rests, rests on: it starts
    /// as it is wanted now when somebody needs it.
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
            _ => self.restart(transition),
        }
    }

    /// Sets the counters to zero.
    pub fn reset(&mut self, now: Moment) {
        self.restarts = 0;
        self.created = now;
        self.history.clear();
    }
}
