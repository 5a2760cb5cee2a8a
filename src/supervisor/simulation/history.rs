//! One random life of a supervisor, and what an observer that knows only the requests expects of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::coverage::{Column, Coverage};
use super::crash::{Crash, Reference, Store};
use super::health_observer::HealthObserver;
use super::invariants;
use super::observer::Expectations;
use super::os::{Os, OsEvent};
use super::reload_atomicity::ReloadCheck;
use super::rng::Rng;
use super::{Snapshot, sequence, workload};
use crate::protocol::{Launch, Run};
use crate::spec::dependency::Condition;
use crate::spec::{AppSpec, ExecMode};
use crate::supervisor::{AppId, Effect, Fault, Input, Moment, Process, Proof, Request, State, Supervisor, Ticket};

/// A supervisor, its world, and the observer's expectations.
pub struct History {
    pub supervisor: Supervisor,
    pub os: Os,
    pub rng: Rng,
    pub now: Moment,
    pub next_ticket: u64,
    /// Tickets not answered yet.
    pub open: BTreeSet<Ticket>,
    pub expectations: Expectations,
    /// The expectations before the request that is being put.
    pub expectations_before: Option<Expectations>,
    pub health_observer: HealthObserver,
    /// As it was before the input whose records are going to be lost.
    pub health_observer_before: HealthObserver,
    /// So many in a hundred requests are reloads.
    reloads: u64,
    /// Reloads only, and only successors fail.
    pub rolling: bool,
    /// One reload at a time, and nothing else that replaces processes.
    serial: bool,
    /// What is expected of the reload under way.
    pub reload_check: Option<ReloadCheck>,
    /// The daemon dies of so many in a hundred inputs.
    pub crash_percent: u64,
    pub store: Store,
    pub reference: Option<Reference>,
    saved: Snapshot,
    /// The apps that were clusters before the last input.
    pub clusters: BTreeSet<AppId>,
    pub coverage: Coverage,
    /// The last inputs and effects, kept only when asked for.
    pub trace: Option<Vec<String>>,
}

impl History {
    pub fn new(seed: u64, traced: bool) -> History {
        let mut rng = Rng::new(seed);
        let now = Moment(rng.below(1 << 40));
        History {
            supervisor: Supervisor::default(),
            os: Os::default(),
            rng,
            now,
            next_ticket: 0,
            open: BTreeSet::new(),
            expectations: Expectations::default(),
            expectations_before: None,
            health_observer: HealthObserver::default(),
            health_observer_before: HealthObserver::default(),
            reloads: 0,
            rolling: false,
            serial: false,
            reload_check: None,
            crash_percent: 0,
            store: Store::default(),
            reference: None,
            saved: Snapshot::default(),
            clusters: BTreeSet::new(),
            coverage: Coverage::default(),
            trace: traced.then(Vec::new),
        }
    }

    /// Lives it from the first request to the shutdown.
    pub fn live(&mut self) {
        self.crash_percent = self.rng.pick(&[0, 0, 1, 3]);
        if self.rng.percent(15) {
            self.roll();
            self.reloads = self.rng.pick(&[0, 70]);
        }
        let length = 1 << self.rng.below(7 + self.reloads / 70);
        for _ in 0..length {
            self.step();
        }
        if self.rng.percent(80) {
            self.settle();
            self.check_expected();
        }
        self.shut_down();
    }

    /// A cluster at rest meets reloads whose successors may fail.
    fn roll(&mut self) {
        self.os.behaves = true;
        for name in ["api", "web"] {
            let spec = workload::patient(workload::spec(&mut self.rng, name));
            let first = name == "web" && self.rng.percent(50);
            let depends_on = first.then(|| ("api".to_owned(), Condition::Ready)).into_iter().collect();
            let apps = vec![AppSpec { mode: ExecMode::Cluster, autostart: true, depends_on, ..spec }];
            self.ask(&Request::Launch { apps, how: Launch::New });
        }
        self.settle();
        self.os.behaves = false;
        if self.supervisor.apps().next().is_none() {
            // The daemon died of the launches.
            return;
        }
        self.rolling = true;
        self.serial = self.rng.percent(50);
        for _ in 0..if self.serial { 150 } else { 40 } {
            self.step();
        }
        (self.rolling, self.serial, self.reload_check) = (false, false, None);
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..47 => self.next_event(),
            47..50 => self.demand(),
            50..68 => self.wait(),
            68..72 => drop(self.handle(&Input::Tick)),
            72..90 => {
                let (rng, supervisor) = (&mut self.rng, &self.supervisor);
                let reload = supervisor.apps().next().is_some() && (self.rolling || rng.percent(self.reloads));
                let busy = self.supervisor.apps().any(|app| !app.operations.is_empty());
                // Nothing is there to be reloaded where the daemon died of the launches.
                if self.serial && (busy || !reload) {
                    return;
                }
                let ask = match reload {
                    true => workload::reload(rng, supervisor),
                    false => workload::ask(rng, supervisor, &self.saved),
                };
                if self.serial {
                    self.reload_check = Some(ReloadCheck::new(self, &ask));
                }
                self.ask(&ask);
            }
            90..92 => self.stale_input(),
            92..94 => self.sample(),
            94..96 => (0..=self.rng.below(5)).for_each(|_| self.check_health()),
            96..97 => self.saved = self.supervisor.snapshot(),
            97..98 => self.now = self.now.after(self.rng.millis(3_600_000)),
            _ => self.now = self.now.after(self.rng.millis(2_000)),
        }
    }

    /// The next news of the system, in its time or late.
    pub(super) fn next_event(&mut self) {
        let Some((at, run, news)) = self.os.take() else { return };
        if matches!(news, OsEvent::Crash(_)) && self.rolling && !self.is_successor(run) {
            return;
        }
        self.now = self.now.max(at);
        let input = self.os.happen(&mut self.rng, self.now, run, news);
        self.handle(&input);
    }

    /// What is taken for ready before it was reported to be there is there: while rolling, only successors fail.
    fn confirm_ready_runs(&mut self) {
        if !self.rolling {
            return;
        }
        for process in self.supervisor.processes.values() {
            if let State::Online(serving) | State::Canary { new: serving, .. } = process.state {
                self.os.confirm_spawn(serving.run);
            }
        }
    }

    fn is_successor(&self, run: Run) -> bool {
        let process = self.supervisor.process_of(run);
        process.is_some_and(|process| match process.state {
            State::Launching { run: current, old: Some(_), .. } => current == run,
            State::Canary { new, .. } => new.run == run,
            State::Stopped
            | State::Launching { old: None, .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => false,
        })
    }

    /// Time goes on to the deadline, or some way past it.
    fn wait(&mut self) {
        let Some(deadline) = self.supervisor.next_deadline() else { return };
        self.now = self.now.max(deadline);
        if self.rng.percent(30) {
            self.now = self.now.after(self.rng.millis(3_000));
        }
        self.handle(&Input::Tick);
    }

    /// A report about a run that is gone, or that never existed.
    fn stale_input(&mut self) {
        let run = Run(self.rng.below(self.supervisor.last_run + 3));
        if self.os.bodies.contains_key(&run) {
            return;
        }
        let exit = crate::protocol::Exit::Code(1);
        let input = match self.rng.below(14) {
            0 => Input::Spawned { run },
            1 => Input::SpawnFailed { run, error: "late".into(), permanent: true },
            2 => Input::Ready { run, proof: Proof::Listening },
            3 => Input::Ready { run, proof: Proof::Message },
            4 => Input::Drained { run },
            5 => Input::Exited { run, exit, survivors: self.rng.percent(50) },
            6 => Input::TreeExited { run },
            7 => Input::Delayed { run },
            8 => Input::WatchdogPing { run },
            9 => Input::WatchdogTrigger { run },
            10 => Input::Checked { run, fault: None },
            11 => Input::ListenFailed { run, why: "late".into() },
            12 => Input::Listening { run, address: "[::]:1".into() },
            _ => Input::Sampled { run, memory: 1 << 40 },
        };
        let effects = self.handle(&input);
        assert!(effects.is_empty(), "a stale input had effects: {effects:?}");
    }

    /// A client connects to an app, or none has for long; a run sends a watchdog ping, or reports that it hangs.
    fn demand(&mut self) {
        let apps: Vec<AppId> = self.supervisor.apps().map(|app| app.id).collect();
        let runs: Vec<Run> = self.os.bodies.keys().copied().collect();
        if apps.is_empty() || self.rolling {
            return;
        }
        let ready: Vec<AppId> = apps.iter().copied().filter(|app| self.supervisor.may_rest(*app)).collect();
        let app = self.rng.pick(if ready.is_empty() { &apps } else { &ready });
        // What is expected holds of one daemon, and not across a crash.
        let crash_percent = self.crash_percent;
        let checked = self.rng.percent(50);
        if checked {
            self.crash_percent = 0;
            // What is due after a jump of the clock is none of this.
            self.handle(&Input::Tick);
        }
        let before = invariants::demand(self, app);
        match self.rng.below(6) {
            0..2 => {
                self.handle(&Input::Demand { app });
                if checked {
                    invariants::check_wanted(self, &before, app);
                }
            }
            2..4 => {
                self.handle(&Input::Idle { app });
                if checked {
                    invariants::check_unneeded(self, &before, app);
                }
            }
            _ if runs.is_empty() => {}
            4 => {
                let run = self.rng.pick(&runs);
                self.handle(&Input::WatchdogPing { run });
            }
            _ => {
                let run = self.rng.pick(&runs);
                self.handle(&Input::WatchdogTrigger { run });
            }
        }
        self.crash_percent = crash_percent;
    }

    fn sample(&mut self) {
        let runs: Vec<Run> = self.os.bodies.keys().copied().collect();
        if !runs.is_empty() && !self.serial {
            let input = Input::Sampled { run: self.rng.pick(&runs), memory: self.rng.pick(&[1, 1 << 30]) };
            self.handle(&input);
            let run = self.rng.pick(&runs);
            let judged = self.supervisor.judged_by_errors().any(|judged| judged == run);
            let lines = if judged { u32::try_from(self.rng.below(40)).unwrap_or(0) } else { 1000 };
            self.handle(&Input::StderrLines { run, lines });
        }
    }

    /// The news of some health checks of one run, all the same. While rolling, only successors fail them.
    fn check_health(&mut self) {
        let runs: Vec<Run> = self.os.bodies.keys().copied().collect();
        let successors: Vec<Run> = runs.iter().copied().filter(|run| self.is_successor(*run)).collect();
        let checked = |process: &&Process| self.supervisor.apps[&process.app].spec.health.is_some();
        let serving = self.supervisor.processes().filter(checked).flat_map(Process::serving);
        let serving: Vec<Run> = serving.map(|(run, _)| run).collect();
        let preferred = [successors, serving, runs].into_iter().filter(|runs| !runs.is_empty()).collect::<Vec<_>>();
        if preferred.is_empty() {
            return;
        }
        let preferred = self.rng.pick(&preferred);
        let run = self.rng.pick(&preferred);
        let fails = self.rng.percent(50) && (!self.rolling || self.is_successor(run));
        let why = "connection refused".to_owned();
        let fault = if self.rng.percent(80) { Fault::Own(why) } else { Fault::Unattributed(why) };
        for _ in 0..=self.rng.below(3) {
            if self.os.bodies.contains_key(&run) && (!self.rolling || !fails || self.is_successor(run)) {
                self.handle(&Input::Checked { run, fault: fails.then(|| fault.clone()) });
            }
        }
    }

    /// Hands over one input, carries out what follows, and checks everything.
    pub fn handle(&mut self, input: &Input) -> Vec<Effect> {
        self.cover(input);
        let is_tick = matches!(input, Input::Tick);
        let fate = self.fate();
        let before: Vec<AppId> = self.supervisor.apps.keys().copied().collect();
        let served = if self.rolling { invariants::serving(self) } else { BTreeMap::new() };
        let order = sequence::Before::of(&self.supervisor);
        let effects = self.decide(input);
        invariants::check_effects(self, &effects, &before);
        order.check(&self.supervisor, &effects);
        match fate {
            None => {
                self.carry_out(&effects);
                self.confirm_ready_runs();
            }
            Some(crash) => {
                let done = self.rng.below(effects.len() as u64 + 1);
                self.carry_out(&effects[..usize::try_from(done).expect("few")]);
                self.confirm_ready_runs();
                if let Crash::Recorded = crash {
                    // Its number may have been given again within the same input.
                    self.expectations
                        .expected_up
                        .retain(|id, _| !effects.contains(&Effect::ProcessRemoved { process: *id }));
                }
                self.die(crash, input);
            }
        }
        invariants::check(self, fate.is_some() || !effects.is_empty());
        self.check_rotation();
        self.check_reload(&effects);
        if self.rolling {
            assert_eq!(served, invariants::serving(self), "a reload took somebody from the rotation");
        }
        let late = self.supervisor.next_deadline().is_some_and(|deadline| deadline <= self.now);
        assert!(!(is_tick && late), "a tick left something due");
        effects
    }

    pub fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            let spec = self.spec_of(effect);
            self.os.carry_out(&mut self.rng, self.now, spec.as_deref(), effect);
            if let Effect::Settle { ticket, .. } = effect {
                assert!(self.open.remove(ticket), "{ticket:?} is answered twice");
            }
            if let Effect::ProcessRemoved { process } = effect {
                for expectations in self.expectations_before.iter_mut().chain([&mut self.expectations]) {
                    expectations.expected_up.remove(process);
                }
            }
        }
    }

    /// The spec that the simulated shell needs for an effect: of an app whose run starts, and of one that is no cluster
    /// and whose run is drained all the same.
    fn spec_of(&mut self, effect: &Effect) -> Option<Arc<AppSpec>> {
        let app = if let Effect::Spawn { process, .. } = effect {
            let app = self.supervisor.process(*process)?.app;
            self.os.listening.insert(app);
            app
        } else if let Effect::Drain { run, .. } = effect {
            // The next operation may have made it no cluster within the same input.
            let app = self.supervisor.process_of(*run)?.app;
            if self.clusters.contains(&app) {
                return None;
            }
            app
        } else {
            return None;
        };
        self.supervisor.app(app).map(|app| Arc::clone(&app.spec))
    }

    fn cover(&mut self, input: &Input) {
        let (run, column) = match input {
            Input::Spawned { run } => (run, Column::Spawned),
            Input::SpawnFailed { run, .. } => (run, Column::SpawnFailed),
            Input::Ready { run, .. } => (run, Column::Ready),
            Input::Drained { run } => (run, Column::Drained),
            Input::Exited { run, .. } => (run, Column::Exited),
            Input::TreeExited { run } => (run, Column::TreeExited),
            Input::Checked { run, .. } => (run, Column::Checked),
            Input::Sampled { run, .. } => (run, Column::Sampled),
            Input::WatchdogPing { run } | Input::WatchdogTrigger { run } => (run, Column::WatchdogPing),
            Input::Idle { app } | Input::Demand { app } => {
                let column = if matches!(input, Input::Demand { .. }) { Column::Demand } else { Column::Idle };
                return self.supervisor.members(*app).for_each(|process| self.coverage.note(process, column));
            }
            Input::Tick => {
                let all = self.supervisor.processes.values();
                return all.for_each(|process| self.coverage.note(process, Column::Tick));
            }
            Input::Request { .. }
            | Input::Delayed { .. }
            | Input::ListenFailed { .. }
            | Input::StderrLines { .. }
            | Input::Listening { .. } => return,
        };
        if let Some(process) = self.supervisor.process_of(*run) {
            self.coverage.note(process, column);
        }
    }
}
