//! What happens to a process, and what follows from it.

use std::time::Duration;

use super::timing::{ready_by, seconds};
use super::{Departure, Process, Scene, Serving, Stage, State, Takeover};
use crate::protocol::{EventKind, Exit, Run};
use crate::spec::ExecMode;
use crate::supervisor::input::{Effect, Proof};
use crate::supervisor::restart::{End, in_words};

impl Process {
    // What happens.

    /// The process of `run` exists. Where nothing can prove readiness, that is all there is to wait for.
    pub fn spawned(&mut self, scene: &mut Scene<'_>, run: Run) {
        if scene.spec.mode == ExecMode::Fork && !scene.must_prove() {
            self.become_ready(scene, run, true);
        }
    }

    /// The process of `run` could not be made.
    pub fn spawn_failed(&mut self, scene: &mut Scene<'_>, run: Run, error: &str, permanent: bool) {
        scene.publish(self.id, EventKind::StartFailed { error: error.to_owned() });
        if self.departure_mut(run).is_some() {
            return self.emptied(scene, run);
        }
        let old = match &mut self.state {
            State::Launching { run: current, old, .. } if *current == run => *old,
            // The news came so late that it was taken for ready.
            State::Online(serving) if serving.run == run => None,
            State::Trial { new, old } if new.run == run => Some(*old),
            State::Trial { new, old } if old.run == run => return self.state = State::Online(*new),
            State::Launching { old, .. } => return *old = old.filter(|old| old.run != run),
            State::Trial { .. }
            | State::Stopped
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => return,
        };
        self.launch_failed = true;
        self.reason = Some(error.to_owned());
        match old {
            Some(serving) => self.serve_on(scene, serving),
            None => self.after_end(scene, End::NotSpawned { permanent }, Duration::ZERO),
        }
    }

    /// `run` says or shows that it is ready.
    pub fn ready(&mut self, scene: &mut Scene<'_>, run: Run, proof: Proof) {
        let counts = proof != Proof::Listening || !scene.spec.readiness.wait_ready;
        if counts && scene.spec.health.is_none() {
            self.become_ready(scene, run, true);
        }
    }

    /// `run` could not have what it wanted.
    pub fn obstructed(&mut self, run: Run, why: String) {
        if self.current_run() == Some(run) {
            self.obstacle = Some(why);
        }
    }

    /// `run` has finished what it had.
    pub fn drained(&mut self, scene: &mut Scene<'_>, run: Run) {
        if let Some(departure) = self.departure_mut(run)
            && matches!(departure.stage, Stage::Draining { .. })
        {
            departure.terminate(scene);
        }
    }

    /// What was to be done for `run` was done only now.
    pub fn late(&mut self, scene: &mut Scene<'_>, run: Run) {
        if let Some(departure) = self.departure_mut(run) {
            departure.late(scene);
        }
        if let State::Launching { run: current, since, ready_by: by, old, .. } = &mut self.state
            && *current == run
        {
            (*since, *by) = (scene.now, Some(ready_by(scene, *old)));
            self.started = Some(scene.now);
        }
    }

    /// The main process of `run` ended. Told again, it can only be news of what it left behind.
    pub fn exited(&mut self, scene: &mut Scene<'_>, run: Run, exit: Exit, survivors: bool) {
        if self.departure_mut(run).is_some_and(|departure| departure.exit.is_some()) {
            if !survivors {
                self.emptied(scene, run);
            }
            return;
        }
        let expected = self.departure_mut(run).is_some();
        scene.publish(self.id, EventKind::Exited { exit, expected });
        if let Some(departure) = self.departure_mut(run) {
            departure.exit = Some(exit);
            if !survivors {
                self.emptied(scene, run);
            } else if matches!(departure.stage, Stage::Draining { .. }) {
                departure.terminate(scene);
            }
            return;
        }
        match self.state.clone() {
            State::Launching { run: current, since, old, .. } if current == run => {
                self.successor_failed(scene, Departure::unasked(run, since, exit, scene), survivors, old);
            }
            State::Launching { old: Some(old), run: current, since, ready_by, takeover } if old.run == run => {
                self.last_exit = Some(exit);
                self.state = State::Launching { run: current, since, ready_by, old: None, takeover };
                self.retire_leftovers(scene, Departure::unasked(run, old.since, exit, scene), survivors);
            }
            State::Trial { new, old } if new.run == run => {
                self.successor_failed(scene, Departure::unasked(run, new.since, exit, scene), survivors, Some(old));
            }
            State::Trial { new, old } if old.run == run => {
                self.last_exit = Some(exit);
                self.state = State::Online(new);
                self.retire_leftovers(scene, Departure::unasked(run, old.since, exit, scene), survivors);
            }
            State::Online(serving) if serving.run == run => {
                self.last_exit = Some(exit);
                let departure = Departure::unasked(run, serving.since, exit, scene);
                self.ended_unasked(scene, departure, survivors);
            }
            State::Stopped
            | State::Launching { .. }
            | State::Trial { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    /// The last process of `run`'s tree is gone.
    pub fn emptied(&mut self, scene: &mut Scene<'_>, run: Run) {
        if let Some(at) = self.retiring.iter().position(|departure| departure.run == run) {
            self.retiring.remove(at);
        }
        match self.state.clone() {
            State::Stopping(departure) if departure.run == run => {
                self.last_exit = departure.exit.or(self.last_exit);
                self.departed(scene, &departure);
            }
            State::Stopping(_)
            | State::Stopped
            | State::Launching { .. }
            | State::Trial { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    /// Does what is due, and what falls due by that: a timeout may be zero.
    pub fn tick(&mut self, scene: &mut Scene<'_>) {
        while self.deadline().is_some_and(|deadline| deadline <= scene.now) {
            self.time_out(scene);
        }
    }

    fn time_out(&mut self, scene: &mut Scene<'_>) {
        let mut retiring = std::mem::take(&mut self.retiring);
        for departure in &mut retiring {
            departure.tick(scene);
        }
        self.retiring = retiring;
        match &mut self.state {
            State::Stopping(departure) => departure.tick(scene),
            State::Waiting { until } if *until <= scene.now => {
                self.restarts += 1;
                self.launch(scene, None, Takeover::WhenReady);
            }
            State::Launching { ready_by: Some(by), .. } if *by <= scene.now => self.not_ready_in_time(scene),
            State::Online(_) | State::Trial { .. } => {
                if let Some((until, serving)) = self.silent()
                    && until <= scene.now
                {
                    self.fail(scene, serving, scene.spec.watchdog);
                }
            }
            State::Stopped | State::Launching { .. } | State::Waiting { .. } | State::Idle | State::Errored => {}
        }
    }

    // What follows.

    pub(super) fn launch(&mut self, scene: &mut Scene<'_>, old: Option<Serving>, takeover: Takeover) {
        *scene.last_run += 1;
        (self.obstacle, self.completed) = (None, false);
        let run = Run(*scene.last_run);
        self.started = Some(scene.now);
        let before = std::mem::take(&mut self.condition);
        self.predecessor = old.map(|_| before).unwrap_or_default();
        self.state = State::Launching { run, since: scene.now, ready_by: Some(ready_by(scene, old)), old, takeover };
        scene.effects.push(Effect::Spawn { run, process: self.id });
    }

    pub(super) fn become_ready(&mut self, scene: &mut Scene<'_>, run: Run, proven: bool) {
        match self.state {
            State::Launching { run: current, since, old, takeover, .. } if current == run => {
                let must_stand_in = proven && takeover != Takeover::InAnyCase;
                if must_stand_in && old.is_some_and(|old| self.whereabouts.hold_back(run, old.run)) {
                    return;
                }
                let mut new = Serving { run, since, proven, silent_until: None };
                new.watch(scene);
                self.state = old.map_or(State::Online(new), |old| State::Trial { new, old });
                self.launch_failed = false;
                self.reason = None;
                scene.publish(self.id, EventKind::Online);
                // By the rules of its start it may have been withheld, whatever they are by now.
                scene.effects.push(Effect::Admit { run });
                if takeover != Takeover::AfterTrial {
                    self.accept(scene);
                }
            }
            State::Online(serving) if serving.run == run => {
                self.state = State::Online(Serving { proven: serving.proven || proven, ..serving });
            }
            State::Trial { new, old } if new.run == run => {
                self.state = State::Trial { new: Serving { proven: new.proven || proven, ..new }, old };
            }
            State::Stopped
            | State::Launching { .. }
            | State::Trial { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    fn not_ready_in_time(&mut self, scene: &mut Scene<'_>) {
        let State::Launching { run, since, ready_by, old, takeover } = &mut self.state else { return };
        let mut waited = format!("not ready after {}", seconds(scene.now.since(*since)));
        let elsewhere = old.and_then(|old| self.whereabouts.fault(*run, old.run));
        let missing = || scene.spec.health.as_ref().and_then(|health| health.probe.missing());
        if let Some(fault) = self.condition.fault().map(str::to_owned).or(elsewhere).or_else(missing) {
            waited = format!("{waited}: {fault}");
        }
        match *old {
            Some(serving) if *takeover != Takeover::InAnyCase && (scene.must_prove() || serving.proven) => {
                let departure = Departure::begin(*run, *since, scene, false);
                self.retiring.push(departure);
                self.serve_on(scene, serving);
                self.launch_failed = true;
                self.reason = Some(waited);
            }
            None if scene.must_prove() => {
                *ready_by = None;
                self.launch_failed = true;
                self.reason = Some(waited);
            }
            Some(_) | None => {
                let run = *run;
                self.become_ready(scene, run, false);
            }
        }
    }

    fn successor_failed(&mut self, scene: &mut Scene<'_>, departure: Departure, survivors: bool, old: Option<Serving>) {
        self.launch_failed = true;
        let Some(old) = old else {
            self.last_exit = departure.exit;
            return self.ended_unasked(scene, departure, survivors);
        };
        let when =
            if matches!(self.state, State::Trial { .. }) { "while it was watched" } else { "before it was ready" };
        self.reason = departure.exit.map(|exit| self.because(format!("{} {when}", in_words(exit))));
        self.serve_on(scene, old);
        self.retire_leftovers(scene, departure, survivors);
    }

    /// What happened, and what the run had met before.
    pub(super) fn because(&mut self, what: String) -> String {
        match self.obstacle.take() {
            Some(obstacle) => format!("{what}: {obstacle}"),
            None => what,
        }
    }

    /// The old run stays: it is the last that was started again, and no restart has come of it.
    pub(super) fn serve_on(&mut self, scene: &Scene<'_>, mut old: Serving) {
        self.started = Some(old.since);
        self.restarts = self.restarts.saturating_sub(1);
        old.watch(scene);
        self.condition = std::mem::take(&mut self.predecessor);
        self.state = State::Online(old);
    }

    fn ended_unasked(&mut self, scene: &mut Scene<'_>, departure: Departure, survivors: bool) {
        if survivors {
            scene.effects.push(Effect::Terminate { run: departure.run });
            self.state = State::Stopping(departure);
        } else {
            self.state = State::Stopped;
            self.departed(scene, &departure);
        }
    }

    fn retire_leftovers(&mut self, scene: &mut Scene<'_>, departure: Departure, survivors: bool) {
        if survivors {
            scene.effects.push(Effect::Terminate { run: departure.run });
            self.retiring.push(departure);
        }
    }

    /// Sends what runs on its way, keeping to the goal.
    pub(super) fn depart(&mut self, scene: &mut Scene<'_>, drain: bool) {
        match self.state.clone() {
            State::Online(Serving { run, since, .. }) => {
                scene.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(Departure::begin(run, since, scene, drain));
            }
            State::Launching { run, since, old, .. } => {
                scene.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(Departure::begin(run, since, scene, false));
                if let Some(old) = old {
                    let departure = Departure::begin(old.run, old.since, scene, drain);
                    self.retiring.push(departure);
                }
            }
            State::Trial { new, old } => {
                scene.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(Departure::begin(new.run, new.since, scene, drain));
                let departure = Departure::begin(old.run, old.since, scene, drain);
                self.retiring.push(departure);
            }
            State::Waiting { .. } | State::Idle | State::Errored => self.settle_down(scene),
            State::Stopping(_) | State::Stopped => {}
        }
    }

    /// Ends every drain: somebody wants it gone sooner.
    pub(super) fn hasten(&mut self, scene: &mut Scene<'_>) {
        for departure in &mut self.retiring {
            departure.hasten(scene);
        }
        if let State::Stopping(departure) = &mut self.state {
            departure.hasten(scene);
        }
    }

    /// A person started it anew: the past is forgotten.
    pub(super) fn renew(&mut self) {
        self.history.clear();
        self.launch_failed = false;
        self.reason = None;
    }
}
