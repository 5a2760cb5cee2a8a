//! Whether a process is needed, and whether it is alive: what follows from silence, of its clients and its own.

use std::time::Duration;

use super::events::seconds;
use super::{Departure, Goal, Process, Scene, Serving, State};
use crate::protocol::{EventKind, Run};

impl Process {
    /// Nobody needs it: it finishes what it has, goes, and rests.
    pub fn rest(&mut self, scene: &mut Scene<'_>) {
        let State::Online(Serving { run, since, .. }) = self.state else { return };
        scene.publish(self.id, EventKind::Stopping);
        let departure = Departure::begin(run, since, scene, true);
        self.state = State::Stopping(Departure { rests: true, ..departure });
    }

    /// Somebody needs it. One that is on its way out does not come back, so another is started beside it. That is no
    /// restart, and no counter knows of it.
    pub fn wake(&mut self, scene: &mut Scene<'_>) {
        if self.goal != Goal::Up || !self.rests() {
            return;
        }
        if let State::Stopping(departure) = &self.state {
            self.retiring.push(Departure { rests: false, ..departure.clone() });
        }
        self.launch(scene, None);
    }

    /// One that was just added was at rest when it was written down.
    pub fn lie(&mut self) {
        (self.goal, self.state) = (Goal::Up, State::Idle);
    }

    /// It is at rest.
    pub(super) fn lie_down(&mut self, scene: &mut Scene<'_>) {
        self.state = State::Idle;
        scene.publish(self.id, EventKind::Idle);
    }

    /// `run` says that it is alive.
    pub fn alive(&mut self, scene: &Scene<'_>, run: Run) {
        if let State::Online(serving) = &mut self.state
            && serving.run == run
        {
            serving.watch(scene);
        }
    }

    /// `run` says that it hangs.
    pub fn hangs(&mut self, scene: &mut Scene<'_>, run: Run) {
        if matches!(self.state, State::Online(serving) if serving.run == run) {
            self.fail(scene, None);
        }
    }

    /// The run that serves has hung: it is brought to its end, and started again as after any other failure.
    /// `silent` for how long, unless it said so itself.
    pub(super) fn fail(&mut self, scene: &mut Scene<'_>, silent: Option<Duration>) {
        let State::Online(Serving { run, since, .. }) = self.state else { return };
        let timeout_ms = silent.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        scene.publish(self.id, EventKind::Hung { timeout_ms });
        self.reason = Some(match silent {
            Some(time) => format!("it hung: no WATCHDOG=1 within {}", seconds(time)),
            None => "it said that it hung".to_owned(),
        });
        let departure = Departure::begin(run, since, scene, false);
        self.state = State::Stopping(Departure { unasked: Some(scene.now.since(since)), hung: true, ..departure });
    }
}

impl Serving {
    /// From now on its silence counts, where the app has a watchdog.
    pub(super) fn watch(&mut self, scene: &Scene<'_>) {
        self.silent_until = scene.spec.watchdog.map(|time| scene.now.after(time));
    }
}
