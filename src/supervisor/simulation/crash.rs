//! The daemon dies at any instant of a history, and the next one goes on from its records, doing what the shell must do
//! (see [`crate::supervisor::persist`]).
//!
//! It dies with an input taken in and written down, and its effects carried out, all or the first few. Or the last
//! records are lost while their effects stand. The system lives on: programs start, end and are told nothing. The
//! recovered supervisor then runs beside a reference that never died, is given the same inputs, and must do the same.

use std::collections::BTreeMap;

use super::coverage::Column;
use super::history::History;
use super::os::OsEvent;
use crate::protocol::{EventKind, Exit, Run};
use crate::spec::ExecMode;
use crate::supervisor::{Effect, Input, Moment, Process, RecordKey, Request, State, Supervisor, Ticket};

/// For so many inputs the reference runs beside the recovered supervisor.
const REFERENCE_INPUTS: u32 = 8;

/// How the daemon is going to die of an input.
#[derive(Clone, Copy)]
pub enum Crash {
    /// Its records are written, its effects carried out in part or all.
    Recorded,
    /// Its effects are carried out in part or all, its records lost.
    Lost,
}

/// The supervisor that did not die.
pub struct Reference {
    supervisor: Supervisor,
    inputs: u32,
}

/// What was written down.
#[derive(Default)]
pub struct Store(BTreeMap<RecordKey, String>);

impl Store {
    pub fn write(&mut self, supervisor: &mut Supervisor) {
        for (key, text) in supervisor.changes() {
            match text {
                Some(text) => self.0.insert(key, text),
                None => self.0.remove(&key),
            };
        }
        assert!(supervisor.changes().is_empty(), "changes are handed out twice");
    }

    fn read(&self) -> Supervisor {
        let records = self.0.iter().map(|(key, text)| (*key, text.as_str()));
        Supervisor::from_records(records).expect("what was written can be read")
    }

    fn check(&self, supervisor: &Supervisor) {
        let whole: BTreeMap<RecordKey, String> = supervisor.all_records().collect();
        // Before the first change there are no records, not even of the counters.
        let fresh = self.0.is_empty() && whole.len() == 1;
        assert!(fresh || self.0 == whole, "what was written is not what is: {:?}, {whole:?}", self.0);
    }
}

impl History {
    /// Whether the daemon is to die of the next input.
    pub fn fate(&mut self) -> Option<Crash> {
        if !self.rng.percent(self.crash_percent) {
            return None;
        }
        self.store.write(&mut self.supervisor);
        self.health_observer_before = self.health_observer.clone();
        Some(if !self.rolling && self.rng.percent(30) { Crash::Lost } else { Crash::Recorded })
    }

    /// Lets supervisor and reference take in an input.
    pub fn decide(&mut self, input: &Input) -> Vec<Effect> {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {input:?}", self.now));
        }
        let clusters = self.supervisor.apps().filter(|app| app.spec.mode == ExecMode::Cluster);
        self.clusters = clusters.map(|app| app.id).collect();
        self.health_observer.note(&self.supervisor, input);
        let effects = self.supervisor.handle(self.now, input.clone());
        if let Some(trace) = &mut self.trace {
            trace.extend(effects.iter().map(|effect| format!("    {effect:?}")));
        }
        if let Some(mut reference) = self.reference.take() {
            let mut same = reference.supervisor.handle(self.now, input.clone());
            // The reference still answers what was asked before.
            same.retain(|effect| !matches!(effect, Effect::Settle { ticket, .. } if !self.open.contains(ticket)));
            assert_eq!(effects, same, "the recovered does not do what it did before");
            assert_eq!(self.supervisor.next_deadline(), reference.supervisor.next_deadline());
            reference.inputs += 1;
            if reference.inputs < REFERENCE_INPUTS {
                self.reference = Some(reference);
            } else {
                assert!(self.supervisor.all_records().eq(reference.supervisor.all_records()), "the twins grow apart");
            }
        }
        effects
    }

    /// The daemon is gone, the system goes on for a while, and the next daemon takes over.
    pub fn die(&mut self, crash: Crash, input: &Input) {
        for process in self.supervisor.processes.values() {
            self.coverage.note(process, Column::Crash);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(match crash {
                Crash::Recorded => "the daemon dies".to_owned(),
                Crash::Lost => "the daemon dies and its last records are lost".to_owned(),
            });
        }
        match crash {
            Crash::Recorded => {
                self.store.write(&mut self.supervisor);
                self.store.check(&self.supervisor);
                self.forget_removed();
            }
            Crash::Lost => {
                if let Some(before) = self.expectations_before.take() {
                    self.expectations = before;
                }
                self.health_observer = self.health_observer_before.clone();
                if let Input::SpawnFailed { run, .. } = input {
                    self.os.forget_spawn(*run);
                }
            }
        }
        let recovered = self.store.read();
        self.store.check(&recovered);
        let dead = std::mem::replace(&mut self.supervisor, recovered);
        self.reference = None;
        if let Crash::Recorded = crash {
            assert_eq!(self.supervisor.next_deadline(), dead.next_deadline());
            self.reference = Some(Reference { supervisor: dead, inputs: 0 });
        }
        self.open.clear();
        self.reload_check = None;
        self.os.orphan();
        let backlog = self.gap();
        self.recover(backlog);
    }

    /// What happens while there is no daemon: inputs that wait for the next one, in order.
    fn gap(&mut self) -> Vec<Input> {
        let longest = match self.rng.below(10) {
            _ if self.rolling => 1,
            0..5 => 1,
            5..9 => 400,
            _ if self.os.behaves => 1,
            _ => 60_000,
        };
        let end = self.now.after(self.rng.millis(longest));
        // The keeper, which keeps exits and messages for the daemon, may have died with it.
        let forgotten = self.rng.percent(30);
        let mut backlog = Vec::new();
        while self.os.next().is_some_and(|at| at <= end) && !self.rolling {
            let Some((at, run, news)) = self.os.take() else { continue };
            self.now = self.now.max(at);
            let input = self.os.happen(&mut self.rng, self.now, run, news);
            let is_lost = matches!(news, OsEvent::Spawned) || (forgotten && matches!(news, OsEvent::Ready(_)));
            if is_lost {
                continue;
            }
            if let Input::Exited { run, survivors, .. } = input
                && forgotten
            {
                backlog.push(Input::Exited { run, exit: Exit::Unknown, survivors });
            } else {
                backlog.push(input);
            }
        }
        self.now = self.now.max(end);
        backlog
    }

    /// What the shell of the new daemon does before it listens to anybody.
    fn recover(&mut self, backlog: Vec<Input>) {
        let known = &self.supervisor.runs;
        self.os.kill_strays(|run| known.contains_key(&run));
        let apps = &self.supervisor.apps;
        self.os.listening.retain(|app| apps.contains_key(app));
        self.supervisor.skip_runs_to(self.os.last_run());
        if let Some(reference) = &mut self.reference {
            reference.supervisor.skip_runs_to(self.os.last_run());
        }
        self.os.recovering = true;
        self.rotate();
        self.finish();
        for input in backlog {
            self.hand_over(&input);
        }
        self.report_unseen_ends();
        self.os.recovering = false;
        let serving = |process: &Process| match process.state {
            State::Online(serving) => Some(serving.run),
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => None,
        };
        let serving: Vec<Run> = self.supervisor.processes().filter_map(serving).collect();
        for run in serving {
            self.hand_over(&Input::WatchdogPing { run });
        }
        if self.os.behaves {
            self.os.make_well_behaved(self.now);
        }
        if self.supervisor.is_closing() && self.rng.percent(50) {
            self.next_ticket += 1;
            self.open.insert(Ticket(self.next_ticket));
            self.hand_over(&Input::Request { ticket: Ticket(self.next_ticket), ask: Request::ShutDown });
        }
        if self.supervisor.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.hand_over(&Input::Tick);
        }
    }

    /// Admits every ready run that is not ejected.
    fn rotate(&mut self) {
        for (run, _) in self.supervisor.processes.values().flat_map(Process::serving) {
            self.os.rotate(run, !self.supervisor.is_ejected(run));
            self.os.bodies.entry(run).and_modify(|body| body.serves = true);
        }
    }

    /// Carries out what the dead daemon had not.
    fn finish(&mut self) {
        let unfinished = self.supervisor.unfinished(self.now);
        assert_eq!(unfinished, self.supervisor.unfinished(self.now), "the order is left to chance");
        for effect in unfinished {
            let (run, done) = match effect {
                Effect::WatchForDemand { .. } | Effect::CloseListeners { .. } => {
                    self.carry_out(std::slice::from_ref(&effect));
                    continue;
                }
                Effect::Spawn { run, .. } => (run, self.os.was_started(run)),
                Effect::Terminate { run } => (run, self.os.was_told_to_stop(run)),
                Effect::Drain { run, .. } => (run, !self.os.can_drain(run)),
                Effect::Kill { run } => (run, !self.os.bodies.contains_key(&run)),
                Effect::Serve { .. }
                | Effect::Admit { .. }
                | Effect::Eject { .. }
                | Effect::Signal { .. }
                | Effect::UpdatePidFile { .. }
                | Effect::ProcessRemoved { .. }
                | Effect::AppRemoved { .. }
                | Effect::Publish { .. }
                | Effect::Settle { .. } => panic!("not for the dead to leave undone: {effect:?}"),
            };
            let starts = matches!(effect, Effect::Spawn { .. });
            if !done {
                self.carry_out(std::slice::from_ref(&effect));
                if starts || matches!(effect, Effect::Terminate { .. }) {
                    self.hand_over(&Input::Delayed { run });
                    let began = self.supervisor.process_of(run).and_then(|process| launched_at(process, run));
                    assert!(began.is_none_or(|began| began == self.now), "{run:?} is older than it can be");
                }
            } else if starts {
                self.hand_over(&Input::Spawned { run });
            }
        }
    }

    /// Reports the end of every run whose end no daemon reported.
    fn report_unseen_ends(&mut self) {
        let runs: Vec<Run> = self.supervisor.runs.keys().copied().collect();
        for run in runs {
            let survivors = match self.os.bodies.get(&run) {
                Some(body) if body.main => continue,
                Some(_) => true,
                None => false,
            };
            let known = self.supervisor.process_of(run).is_some_and(|process| exit_is_known(process, run));
            let effects = self.hand_over(&Input::Exited { run, exit: Exit::Unknown, survivors });
            let ends = |effect: &Effect| matches!(effect, Effect::Publish { kind: EventKind::Exited { .. }, .. });
            assert!(!known || !effects.iter().any(ends), "{run:?} ends twice");
        }
    }

    /// An input as any other, while not all is in order yet.
    fn hand_over(&mut self, input: &Input) -> Vec<Effect> {
        let effects = self.decide(input);
        self.carry_out(&effects);
        effects
    }
}

fn launched_at(process: &Process, run: Run) -> Option<Moment> {
    let State::Launching { run: current, since, .. } = process.state else { return None };
    (current == run).then_some(since)
}

fn exit_is_known(process: &Process, run: Run) -> bool {
    let current = match &process.state {
        State::Stopping(stopping) => Some(stopping),
        State::Stopped
        | State::Launching { .. }
        | State::Canary { .. }
        | State::Online(_)
        | State::Waiting { .. }
        | State::Idle
        | State::Errored => None,
    };
    let mut stopping_runs = current.into_iter().chain(&process.retiring);
    stopping_runs.any(|stopping| stopping.run == run && stopping.exit.is_some())
}
