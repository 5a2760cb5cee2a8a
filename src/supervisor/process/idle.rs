//! Whether a process is needed, and whether it is alive: what follows from silence, of its clients and its own.

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
    /// Nobody needs it: it finishes what it has, goes, and rests.
    pub fn go_idle(&mut self, transition: &mut Transition<'_>) {
        let State::Online(Serving { run, since, .. }) = self.state else { return };
        transition.publish(self.id, EventKind::Stopping);
        let stopping = StoppingRun::begin(run, since, transition, true);
        self.state = State::Stopping(StoppingRun { rests: true, ..stopping });
    }

    /// Somebody needs it. One that is on its way out does not come back, so another is started beside it. That is no
    /// restart, and no counter knows of it.
    pub fn wake(&mut self, transition: &mut Transition<'_>) {
        if self.goal != Goal::Up || !self.rests() {
            return;
        }
        if let State::Stopping(stopping) = &self.state {
            self.retiring.push(StoppingRun { rests: false, ..stopping.clone() });
        }
        self.launch(transition, None, Promotion::WhenReady);
    }

    /// One that was just added was at rest when it was written down.
    pub fn restore_idle(&mut self, transition: &mut Transition<'_>) {
        self.goal = Goal::Up;
        self.become_idle(transition);
    }

    /// It is at rest.
    pub(crate) fn become_idle(&mut self, transition: &mut Transition<'_>) {
        self.state = State::Idle;
        transition.effects.push(Effect::WatchForDemand { app: self.app });
        transition.publish(self.id, EventKind::Idle);
    }

    /// `run` says that it is alive.
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

    /// `run` says that it hangs.
    pub fn watchdog_triggered(&mut self, transition: &mut Transition<'_>, run: Run) {
        if let Some(serving) = self.ready_runs().find(|serving| serving.run == run) {
            self.fail(transition, serving, None);
        }
    }

    /// When the first of those that are ready has kept silent for too long, and which.
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

    /// A run that is ready has hung: it is brought to its end, and started again as after any other failure. Of two that
    /// are ready the other serves on. `silent` for how long, unless it said so itself.
    pub(crate) fn fail(&mut self, transition: &mut Transition<'_>, failed: Serving, silent: Option<Duration>) {
        let Serving { run, since, .. } = failed;
        let timeout_ms = silent.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        transition.publish(self.id, EventKind::Hung { timeout_ms });
        self.reason = Some(match silent {
            Some(time) => format!("it hung: no WATCHDOG=1 within {}", seconds(time)),
            None => "it said that it hung".to_owned(),
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
    /// From now on its silence counts, where the app has a watchdog.
    pub(crate) fn watch(&mut self, transition: &Transition<'_>) {
        self.silent_until = transition.spec.watchdog.map(|time| transition.now.after(time));
    }
}
