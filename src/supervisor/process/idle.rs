//! Two timeouts of a ready process: no client connects (idle), or the worker sends no watchdog ping (hung).

use std::time::Duration;

use super::events::seconds;
use super::promotion::Promotion;
use super::state::{Goal, Process, Serving, State};
use super::stopping_run::StoppingRun;
use super::transition::Transition;
use crate::protocol::{EventKind, Run};
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;

impl Process {
    /// No client is connected: the run is drained and stopped, and the process becomes idle.
    pub fn go_idle(&mut self, transition: &mut Transition<'_>) {
        let State::Online(Serving { run, since, .. }) = self.state else { return };
        transition.publish(self.id, EventKind::Stopping);
        let stopping = StoppingRun::begin(run, since, transition, true);
        self.state = State::Stopping(StoppingRun { rests: true, ..stopping });
    }

    /// A client connects: an idle process starts. If its last run is still stopping, a new run starts beside it. This
    /// is no restart and is not counted.
    pub fn wake(&mut self, transition: &mut Transition<'_>) {
        if self.goal != Goal::Up || !self.rests() {
            return;
        }
        if let State::Stopping(stopping) = &self.state {
            self.retiring.push(StoppingRun { rests: false, ..stopping.clone() });
        }
        self.launch(transition, None, Promotion::WhenReady);
    }

    /// Restores a process that was idle when the snapshot was saved.
    pub fn restore_idle(&mut self, transition: &mut Transition<'_>) {
        self.goal = Goal::Up;
        self.become_idle(transition);
    }

    /// The process becomes idle: the addresses of its app are watched for the next client.
    pub(crate) fn become_idle(&mut self, transition: &mut Transition<'_>) {
        self.state = State::Idle;
        transition.effects.push(Effect::WatchForDemand { app: self.app });
        transition.publish(self.id, EventKind::Idle);
    }

    /// `run` sent a watchdog ping: its timeout starts again.
    pub fn watchdog_pinged(&mut self, transition: &Transition<'_>, run: Run) {
        let serving = match &mut self.state {
            State::Online(serving) => [Some(serving), None],
            State::Canary { new, old } => [Some(new), Some(old)],
            State::Stopped
            | State::Launching { .. }
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => [None, None],
        };
        serving
            .into_iter()
            .flatten()
            .filter(|serving| serving.run == run)
            .for_each(|serving| serving.watch(transition));
    }

    /// `run` reported that it hangs.
    pub fn watchdog_triggered(&mut self, transition: &mut Transition<'_>, run: Run) {
        if let Some(serving) = self.ready_runs().find(|serving| serving.run == run) {
            self.fail(transition, serving, None);
        }
    }

    /// The ready run whose watchdog timeout ends first, and when.
    pub(crate) fn silent(&self) -> Option<(Moment, Serving)> {
        self.ready_runs().filter_map(|serving| Some((serving.silent_until?, serving))).min_by_key(|(until, _)| *until)
    }

    fn ready_runs(&self) -> impl Iterator<Item = Serving> + use<> {
        let (one, other) = match self.state {
            State::Online(serving) => (Some(serving), None),
            State::Canary { new, old } => (Some(new), Some(old)),
            State::Stopped
            | State::Launching { .. }
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// A ready run has hung: it is terminated, and the process restarts as after any other failure. During a canary the
    /// other run serves on. `silent` is the watchdog timeout; `None` if the run itself reported that it hangs.
    pub(crate) fn fail(&mut self, transition: &mut Transition<'_>, failed: Serving, silent: Option<Duration>) {
        let Serving { run, since, .. } = failed;
        let timeout_ms = silent.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        transition.publish(self.id, EventKind::Hung { timeout_ms });
        self.reason = Some(match silent {
            Some(time) => format!("it hung: no WATCHDOG=1 within {}", seconds(time)),
            None => "it reported that it hung".to_owned(),
        });
        let stopping = StoppingRun { hung: true, ..StoppingRun::begin(run, since, transition, false) };
        let State::Canary { new, old } = self.state else {
            self.state = State::Stopping(StoppingRun { unasked: Some(transition.now.since(since)), ..stopping });
            return;
        };
        self.retiring.push(stopping);
        if new.run == run {
            self.launch_failed = true;
            self.keep_predecessor(transition, old);
        } else {
            self.reason = None;
            self.state = State::Online(new);
        }
    }
}

impl Serving {
    /// Starts the watchdog timeout, if the app has one.
    pub(crate) fn watch(&mut self, transition: &Transition<'_>) {
        self.silent_until = transition.spec.watchdog.map(|time| transition.now.after(time));
    }
}
