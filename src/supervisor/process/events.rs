//! What happens to a process, and what follows from it.

use std::time::Duration;

use super::{Departure, Goal, Process, Scene, Serving, Stage, State};
use crate::protocol::{EventKind, Exit, Run};
use crate::spec::ExecMode;
use crate::supervisor::input::{Effect, Moment, Proof};
use crate::supervisor::restart::{Decision, End, in_words};

/// How long a start waits for readiness unless the spec says otherwise.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// The same for the successor in a reload, where giving up undoes the reload.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

impl Process {
    // What happens.

    /// The process of `run` exists. Where nothing can prove readiness, that is all there is to wait for.
    pub fn spawned(&mut self, scene: &mut Scene<'_>, run: Run) {
        if scene.spec.mode == ExecMode::Fork && !scene.spec.readiness.wait_ready {
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
            State::Launching { old, .. } => return *old = old.filter(|old| old.run != run),
            State::Stopped
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
        if proof != Proof::Listening || !scene.spec.readiness.wait_ready {
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
        if let State::Launching { run: current, since, ready_by: by, old } = &mut self.state
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
            State::Launching { old: Some(old), run: current, since, ready_by } if old.run == run => {
                self.last_exit = Some(exit);
                self.state = State::Launching { run: current, since, ready_by, old: None };
                self.retire_leftovers(scene, Departure::unasked(run, old.since, exit, scene), survivors);
            }
            State::Online(serving) if serving.run == run => {
                self.last_exit = Some(exit);
                let departure = Departure::unasked(run, serving.since, exit, scene);
                self.ended_unasked(scene, departure, survivors);
            }
            State::Stopped
            | State::Launching { .. }
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
                self.launch(scene, None);
            }
            State::Launching { ready_by: Some(by), .. } if *by <= scene.now => self.not_ready_in_time(scene),
            State::Online(serving) if serving.silent_until.is_some_and(|until| until <= scene.now) => {
                self.fail(scene, scene.spec.watchdog);
            }
            State::Stopped
            | State::Launching { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    // What follows.

    pub(super) fn launch(&mut self, scene: &mut Scene<'_>, old: Option<Serving>) {
        *scene.last_run += 1;
        self.obstacle = None;
        let run = Run(*scene.last_run);
        self.started = Some(scene.now);
        self.state = State::Launching { run, since: scene.now, ready_by: Some(ready_by(scene, old)), old };
        scene.effects.push(Effect::Spawn { run, process: self.id });
    }

    fn become_ready(&mut self, scene: &mut Scene<'_>, run: Run, proven: bool) {
        match self.state {
            State::Launching { run: current, since, old, .. } if current == run => {
                let mut serving = Serving { run, since, proven, silent_until: None };
                serving.watch(scene);
                self.state = State::Online(serving);
                self.launch_failed = false;
                self.reason = None;
                scene.publish(self.id, EventKind::Online);
                scene.effects.extend(scene.spec.listens_before_ready().then_some(Effect::Admit { run }));
                if let Some(old) = old {
                    let departure = Departure::begin(old.run, old.since, scene, true);
                    self.retiring.push(departure);
                }
            }
            State::Online(serving) if serving.run == run => {
                self.state = State::Online(Serving { proven: serving.proven || proven, ..serving });
            }
            State::Stopped
            | State::Launching { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    fn not_ready_in_time(&mut self, scene: &mut Scene<'_>) {
        let State::Launching { run, since, ready_by, old } = &mut self.state else { return };
        let waited = format!("not ready after {}", seconds(scene.now.since(*since)));
        match *old {
            Some(serving) if scene.spec.readiness.wait_ready || serving.proven => {
                let departure = Departure::begin(*run, *since, scene, false);
                self.retiring.push(departure);
                self.serve_on(scene, serving);
                self.launch_failed = true;
                self.reason = Some(waited);
            }
            None if scene.spec.readiness.wait_ready => {
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
        self.reason = departure.exit.map(|exit| self.because(format!("{} before it was ready", in_words(exit))));
        self.serve_on(scene, old);
        self.retire_leftovers(scene, departure, survivors);
    }

    /// What happened, and what the run had met before.
    fn because(&mut self, what: String) -> String {
        match self.obstacle.take() {
            Some(obstacle) => format!("{what}: {obstacle}"),
            None => what,
        }
    }

    /// The old run stays: it is the last that was started again, and no restart has come of it.
    fn serve_on(&mut self, scene: &Scene<'_>, mut old: Serving) {
        self.started = Some(old.since);
        self.restarts = self.restarts.saturating_sub(1);
        old.watch(scene);
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

    /// The run that the state is about is gone.
    fn departed(&mut self, scene: &mut Scene<'_>, departure: &Departure) {
        match (self.goal, departure.exit, departure.unasked) {
            (Goal::Down | Goal::Gone, ..) => self.settle_down(scene),
            (Goal::Up, ..) if departure.rests => self.lie_down(scene),
            (Goal::Up, _, Some(lived)) if departure.hung => self.after_end(scene, End::Hung, lived),
            (Goal::Up, Some(exit), Some(lived)) => self.after_end(scene, End::Exited(exit), lived),
            (Goal::Up, ..) => {
                self.restarts += 1;
                self.launch(scene, None);
            }
        }
    }

    pub(super) fn after_end(&mut self, scene: &mut Scene<'_>, end: End, lived: Duration) {
        if self.goal != Goal::Up {
            return self.settle_down(scene);
        }
        if let End::Exited(exit) = end {
            self.reason = Some(self.because(in_words(exit)));
        }
        match self.history.decide(&scene.spec.restart, end, lived, scene.now) {
            Decision::Now => {
                self.restarts += 1;
                self.launch(scene, None);
            }
            Decision::After(wait) => {
                self.state = State::Waiting { until: scene.now.after(wait) };
                let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                scene.publish(self.id, EventKind::WaitingRestart { delay_ms });
            }
            Decision::StayDown => {
                self.goal = Goal::Down;
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

    /// It is stopped when nothing of it runs: until then it is about what is still on its way out.
    pub(super) fn settle_down(&mut self, scene: &mut Scene<'_>) {
        if let Some(departure) = self.retiring.pop() {
            self.state = State::Stopping(departure);
            return;
        }
        self.state = State::Stopped;
        scene.publish(self.id, EventKind::Stopped);
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

/// When waiting for the readiness of a run that starts now ends.
fn ready_by(scene: &Scene<'_>, old: Option<Serving>) -> Moment {
    let patience = scene.spec.readiness.listen_timeout.unwrap_or(match old {
        Some(serving) if serving.proven => RELOAD_PATIENCE,
        Some(_) | None => START_PATIENCE,
    });
    scene.now.after(patience)
}

/// In words, to a tenth.
pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", ((span.as_millis() + 50) / 100) as f64 / 10.0)
}
