//! What happens to a process, and what follows from it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::promotion::Promotion;
use super::state::{Process, Serving, State};
use super::stopping_run::{StopStage, StoppingRun};
use super::transition::Transition;
use crate::protocol::{EventKind, Exit, Run};
use crate::spec::{ExecMode, Mechanism};
use crate::supervisor::input::{Effect, Proof};
use crate::supervisor::moment::Moment;
use crate::supervisor::restart::{End, in_words};

/// How long a start waits for readiness unless the spec says otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for the successor in a reload, where giving up undoes the reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

impl Process {
    // What happens.

    /// The process of `run` exists. Where nothing can prove readiness, that is all there is to wait for.
    pub fn spawned(&mut self, transition: &mut Transition<'_>, run: Run) {
        if transition.spec.mode == ExecMode::Fork && !transition.must_prove() {
            self.become_ready(transition, run, true);
        }
    }

    /// The process of `run` could not be made.
    pub fn spawn_failed(&mut self, transition: &mut Transition<'_>, run: Run, error: &str, permanent: bool) {
        transition.publish(self.id, EventKind::StartFailed { error: error.to_owned() });
        if self.stopping_mut(run).is_some() {
            return self.tree_exited(transition, run);
        }
        let old = match &mut self.state {
            State::Launching { run: current, old, .. } if *current == run => *old,
            // The report came so late that the run was taken for ready.
            State::Online(serving) if serving.run == run => None,
            State::Canary { new, old } if new.run == run => Some(*old),
            State::Canary { new, old } if old.run == run => return self.state = State::Online(*new),
            State::Launching { old, .. } => return *old = old.filter(|old| old.run != run),
            State::Canary { .. }
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
            Some(serving) => self.keep_predecessor(transition, serving),
            None => self.after_end(transition, End::NotSpawned { permanent }, Duration::ZERO),
        }
    }

    /// `run` is ready, as shown by `proof`.
    pub fn ready(&mut self, transition: &mut Transition<'_>, run: Run, proof: Proof) {
        let counts = proof != Proof::Listening || !transition.spec.readiness.wait_ready;
        if counts && transition.spec.health.is_none() {
            self.become_ready(transition, run, true);
        }
    }

    /// `run` listens on a shared address. One that was ready but for that may be so now.
    pub fn listens(&mut self, transition: &mut Transition<'_>, run: Run, address: String) {
        // Addresses that are given are no wish of the program's, and those of Unix sockets may hold a pid.
        if transition.spec.mechanism() == Mechanism::Activation || address.starts_with('/') {
            return;
        }
        let alive: BTreeSet<Run> = self.runs().collect();
        if self.listen_addresses.add(run, address, &alive) {
            self.become_ready(transition, run, true);
        }
    }

    /// A bind or listen of `run` failed, for the reason of a later exit.
    pub fn listen_failed(&mut self, run: Run, why: String) {
        if self.current_run() == Some(run) {
            self.obstacle = Some(why);
        }
    }

    /// `run` has finished what it had.
    pub fn drained(&mut self, transition: &mut Transition<'_>, run: Run) {
        if let Some(stopping) = self.stopping_mut(run)
            && matches!(stopping.stage, StopStage::Draining { .. })
        {
            stopping.terminate(transition);
        }
    }

    /// The start or the stop signal of `run` was carried out only now, by a new daemon.
    pub fn delayed(&mut self, transition: &mut Transition<'_>, run: Run) {
        if let Some(stopping) = self.stopping_mut(run) {
            stopping.delayed(transition);
        }
        if let State::Launching { run: current, since, ready_by: by, old, .. } = &mut self.state
            && *current == run
        {
            (*since, *by) = (transition.now, Some(ready_by(transition, *old)));
            self.started = Some(transition.now);
        }
    }

    /// The main process of `run` ended. A second report only tells whether other processes of its tree are left.
    pub fn exited(&mut self, transition: &mut Transition<'_>, run: Run, exit: Exit, survivors: bool) {
        if self.stopping_mut(run).is_some_and(|stopping| stopping.exit.is_some()) {
            if !survivors {
                self.tree_exited(transition, run);
            }
            return;
        }
        let expected = self.stopping_mut(run).is_some();
        transition.publish(self.id, EventKind::Exited { exit, expected });
        if let Some(stopping) = self.stopping_mut(run) {
            stopping.exit = Some(exit);
            if !survivors {
                self.tree_exited(transition, run);
            } else if matches!(stopping.stage, StopStage::Draining { .. }) {
                stopping.terminate(transition);
            }
            return;
        }
        match self.state.clone() {
            State::Launching { run: current, since, old, .. } if current == run => {
                self.successor_failed(transition, StoppingRun::unasked(run, since, exit, transition), survivors, old);
            }
            State::Launching { old: Some(old), run: current, since, ready_by, promotion } if old.run == run => {
                self.last_exit = Some(exit);
                self.state = State::Launching { run: current, since, ready_by, old: None, promotion };
                self.retire_leftovers(transition, StoppingRun::unasked(run, old.since, exit, transition), survivors);
            }
            State::Canary { new, old } if new.run == run => {
                self.successor_failed(
                    transition,
                    StoppingRun::unasked(run, new.since, exit, transition),
                    survivors,
                    Some(old),
                );
            }
            State::Canary { new, old } if old.run == run => {
                self.last_exit = Some(exit);
                self.state = State::Online(new);
                self.retire_leftovers(transition, StoppingRun::unasked(run, old.since, exit, transition), survivors);
            }
            State::Online(serving) if serving.run == run => {
                self.last_exit = Some(exit);
                let stopping = StoppingRun::unasked(run, serving.since, exit, transition);
                self.ended_unasked(transition, stopping, survivors);
            }
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    /// The last process of `run`'s tree is gone.
    pub fn tree_exited(&mut self, transition: &mut Transition<'_>, run: Run) {
        if let Some(at) = self.retiring.iter().position(|stopping| stopping.run == run) {
            self.retiring.remove(at);
        }
        match self.state.clone() {
            State::Stopping(stopping) if stopping.run == run => {
                self.last_exit = stopping.exit.or(self.last_exit);
                self.run_gone(transition, &stopping);
            }
            State::Stopping(_)
            | State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    /// Does what is due, and what falls due by that: a timeout may be zero.
    pub fn tick(&mut self, transition: &mut Transition<'_>) {
        while self.deadline().is_some_and(|deadline| deadline <= transition.now) {
            self.time_out(transition);
        }
    }

    fn time_out(&mut self, transition: &mut Transition<'_>) {
        let mut retiring = std::mem::take(&mut self.retiring);
        for stopping in &mut retiring {
            stopping.tick(transition);
        }
        self.retiring = retiring;
        match &mut self.state {
            State::Stopping(stopping) => stopping.tick(transition),
            State::Waiting { until } if *until <= transition.now => {
                self.restarts += 1;
                self.launch(transition, None, Promotion::WhenReady);
            }
            State::Launching { ready_by: Some(by), .. } if *by <= transition.now => self.not_ready_in_time(transition),
            State::Online(_) | State::Canary { .. } => {
                if let Some((until, serving)) = self.silent()
                    && until <= transition.now
                {
                    self.fail(transition, serving, transition.spec.watchdog);
                }
            }
            State::Stopped | State::Launching { .. } | State::Waiting { .. } | State::Idle | State::Errored => {}
        }
    }

    // What follows.

    pub(super) fn launch(&mut self, transition: &mut Transition<'_>, old: Option<Serving>, promotion: Promotion) {
        *transition.last_run += 1;
        (self.obstacle, self.completed) = (None, false);
        let run = Run(*transition.last_run);
        self.started = Some(transition.now);
        let before = std::mem::take(&mut self.health);
        self.predecessor_health = old.map(|_| before).unwrap_or_default();
        self.state =
            State::Launching { run, since: transition.now, ready_by: Some(ready_by(transition, old)), old, promotion };
        transition.effects.push(Effect::Spawn { run, process: self.id });
    }

    pub(super) fn become_ready(&mut self, transition: &mut Transition<'_>, run: Run, proven: bool) {
        match self.state {
            State::Launching { run: current, since, old, promotion, .. } if current == run => {
                let must_stand_in = proven && promotion != Promotion::Unconditional;
                if must_stand_in && old.is_some_and(|old| self.listen_addresses.hold_back(run, old.run)) {
                    return;
                }
                let mut new = Serving { run, since, proven, silent_until: None };
                new.watch(transition);
                self.state = old.map_or(State::Online(new), |old| State::Canary { new, old });
                self.launch_failed = false;
                self.reason = None;
                transition.effects.push(Effect::UpdatePidFile { process: self.id });
                transition.effects.push(Effect::Serve { run });
                transition.publish(self.id, EventKind::Online);
                // By the rules of its start it may have been not_ready, whatever they are by now.
                transition.effects.push(Effect::Admit { run });
                if promotion != Promotion::AfterCanary {
                    self.promote(transition);
                }
            }
            State::Online(serving) if serving.run == run => {
                self.state = State::Online(Serving { proven: serving.proven || proven, ..serving });
            }
            State::Canary { new, old } if new.run == run => {
                self.state = State::Canary { new: Serving { proven: new.proven || proven, ..new }, old };
            }
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => {}
        }
    }

    fn not_ready_in_time(&mut self, transition: &mut Transition<'_>) {
        let State::Launching { run, since, ready_by, old, promotion } = &mut self.state else { return };
        let mut waited = format!("not ready after {}", seconds(transition.now.since(*since)));
        let elsewhere = old.and_then(|old| self.listen_addresses.fault(*run, old.run));
        let missing = || transition.spec.health.as_ref().and_then(|health| health.probe.missing());
        if let Some(fault) = self.health.fault().map(str::to_owned).or(elsewhere).or_else(missing) {
            waited = format!("{waited}: {fault}");
        }
        match *old {
            Some(serving) if *promotion != Promotion::Unconditional && (transition.must_prove() || serving.proven) => {
                let stopping = StoppingRun::begin(*run, *since, transition, false);
                self.retiring.push(stopping);
                self.keep_predecessor(transition, serving);
                self.launch_failed = true;
                self.reason = Some(waited);
            }
            None if transition.must_prove() => {
                *ready_by = None;
                self.launch_failed = true;
                self.reason = Some(waited);
            }
            Some(_) | None => {
                let run = *run;
                self.become_ready(transition, run, false);
            }
        }
    }

    fn successor_failed(
        &mut self,
        transition: &mut Transition<'_>,
        stopping: StoppingRun,
        survivors: bool,
        old: Option<Serving>,
    ) {
        self.launch_failed = true;
        let Some(old) = old else {
            self.last_exit = stopping.exit;
            return self.ended_unasked(transition, stopping, survivors);
        };
        let when =
            if matches!(self.state, State::Canary { .. }) { "while it was observed" } else { "before it was ready" };
        self.reason = stopping.exit.map(|exit| self.because(format!("{} {when}", in_words(exit))));
        self.keep_predecessor(transition, old);
        self.retire_leftovers(transition, stopping, survivors);
    }

    /// What happened, and what the run had met before.
    pub(super) fn because(&mut self, what: String) -> String {
        match self.obstacle.take() {
            Some(obstacle) => format!("{what}: {obstacle}"),
            None => what,
        }
    }

    /// The old run stays: it is the last that was started again, and no restart has come of it.
    pub(super) fn keep_predecessor(&mut self, transition: &Transition<'_>, mut old: Serving) {
        self.started = Some(old.since);
        self.restarts = self.restarts.saturating_sub(1);
        old.watch(transition);
        self.health = std::mem::take(&mut self.predecessor_health);
        self.state = State::Online(old);
    }

    fn ended_unasked(&mut self, transition: &mut Transition<'_>, stopping: StoppingRun, survivors: bool) {
        if survivors {
            transition.effects.push(Effect::Terminate { run: stopping.run });
            self.state = State::Stopping(stopping);
        } else {
            self.state = State::Stopped;
            self.run_gone(transition, &stopping);
        }
    }

    fn retire_leftovers(&mut self, transition: &mut Transition<'_>, stopping: StoppingRun, survivors: bool) {
        if survivors {
            transition.effects.push(Effect::Terminate { run: stopping.run });
            self.retiring.push(stopping);
        }
    }

    /// Sends what runs on its way, keeping to the goal.
    pub(super) fn begin_stop(&mut self, transition: &mut Transition<'_>, drain: bool) {
        match self.state.clone() {
            State::Online(Serving { run, since, .. }) => {
                transition.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(StoppingRun::begin(run, since, transition, drain));
            }
            State::Launching { run, since, old, .. } => {
                transition.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(StoppingRun::begin(run, since, transition, false));
                if let Some(old) = old {
                    let stopping = StoppingRun::begin(old.run, old.since, transition, drain);
                    self.retiring.push(stopping);
                }
            }
            State::Canary { new, old } => {
                transition.publish(self.id, EventKind::Stopping);
                self.state = State::Stopping(StoppingRun::begin(new.run, new.since, transition, drain));
                let stopping = StoppingRun::begin(old.run, old.since, transition, drain);
                self.retiring.push(stopping);
            }
            State::Waiting { .. } | State::Idle | State::Errored => self.become_stopped(transition),
            State::Stopping(_) | State::Stopped => {}
        }
    }

    /// Ends every drain: a later request does not wait for it.
    pub(super) fn end_drains(&mut self, transition: &mut Transition<'_>) {
        for stopping in &mut self.retiring {
            stopping.end_drain(transition);
        }
        if let State::Stopping(stopping) = &mut self.state {
            stopping.end_drain(transition);
        }
    }

    /// A client started it again: earlier failures no longer count.
    pub(super) fn forget_failures(&mut self) {
        self.history.clear();
        self.launch_failed = false;
        self.reason = None;
    }
}

/// When waiting for the readiness of a run that starts now ends.
pub(super) fn ready_by(transition: &Transition<'_>, old: Option<Serving>) -> Moment {
    let timeout = transition.spec.readiness.listen_timeout.unwrap_or(match old {
        Some(serving) if serving.proven => RELOAD_TIMEOUT,
        Some(_) | None => START_TIMEOUT,
    });
    let start_period = transition.spec.health.as_ref().map(|health| health.start_period).unwrap_or_default();
    transition.now.after(timeout.max(start_period))
}

/// `1.5 s`.
pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", ((span.as_millis() + 50) / 100) as f64 / 10.0)
}
