//! A successor and its predecessor, both alive: which of the two is stopped.

use super::state::{Process, State};
use super::stopping_run::StoppingRun;
use super::transition::Transition;
use crate::protocol::Run;

impl Process {
    /// The canary is accepted: its predecessor is drained and stopped.
    pub fn promote(&mut self, transition: &mut Transition<'_>) {
        if let State::Canary { new, old } = self.state {
            self.state = State::Online(new);
            let stopping = StoppingRun::begin(old.run, old.since, transition, true);
            self.retiring.push(stopping);
        }
    }

    /// The runs that are not stopping.
    pub fn staying(&self) -> impl Iterator<Item = Run> + use<> {
        let (current, old) = match self.state {
            State::Launching { run, old, .. } => (Some(run), old.map(|old| old.run)),
            State::Canary { new, old } => (Some(new.run), Some(old.run)),
            State::Online(serving) => (Some(serving.run), None),
            State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => (None, None),
        };
        current.into_iter().chain(old)
    }

    /// Why a canary that was ready is to be rolled back; `None` if it is not.
    #[must_use]
    pub fn fault_of(&self, run: Run) -> Option<String> {
        match self.state {
            State::Canary { new: serving, .. } | State::Online(serving) if serving.run == run => {
                let fault = self.health.fault().filter(|_| self.health.is_unhealthy());
                fault.map(|fault| format!("unhealthy while it was observed: {fault}"))
            }
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {
                let has_ended = !self.rests() && !self.is_completed();
                has_ended.then(|| self.reason.clone().unwrap_or_else(|| "it ended".to_owned()))
            }
        }
    }

    /// Stops the successor, a canary or not ready yet; its predecessor serves on.
    pub fn roll_back_run(&mut self, transition: &mut Transition<'_>) {
        let (run, since, drain, old) = match self.state {
            // The canary may have clients.
            State::Canary { new, old } => (new.run, new.since, true, old),
            State::Launching { run, since, old: Some(old), .. } => (run, since, false, old),
            State::Stopped
            | State::Launching { old: None, .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => return,
        };
        let stopping = StoppingRun::begin(run, since, transition, drain);
        self.retiring.push(stopping);
        self.keep_predecessor(transition, old);
    }
}
