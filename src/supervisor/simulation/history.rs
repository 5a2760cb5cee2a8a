//! One random life of a supervisor, and what an observer who only knows the requests expects of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::coverage::{Column, Coverage, column};
use super::invariants;
use super::os::{News, Os};
use super::rng::Rng;
use super::{Snapshot, wishes};
use crate::protocol::{Action, Launch, Run, Scale};
use crate::spec::{AppSpec, ExecMode};
use crate::supervisor::{AppId, Ask, Effect, Goal, Input, Moment, ProcessId, Proof, State, Supervisor, Ticket};

/// After the chaos everything must settle within this much virtual time.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);

/// A supervisor, its world, and the observer's book.
pub struct History {
    pub supervisor: Supervisor,
    pub os: Os,
    rng: Rng,
    now: Moment,
    next_ticket: u64,
    /// Tickets not answered yet.
    pub open: BTreeSet<Ticket>,
    /// What the last word about a process was: shall it run? Not known after a reload.
    pub wishes: BTreeMap<ProcessId, bool>,
    /// Apps told to be down as a whole.
    pub quiet: BTreeSet<AppId>,
    /// How many processes the last word about an app wanted.
    counts: BTreeMap<AppId, u32>,
    /// So many in a hundred requests are reloads.
    reloads: u64,
    /// Reloads only, and only successors fail.
    rolling: bool,
    saved: Snapshot,
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
            wishes: BTreeMap::new(),
            quiet: BTreeSet::new(),
            counts: BTreeMap::new(),
            reloads: 0,
            rolling: false,
            saved: Snapshot::default(),
            coverage: Coverage::default(),
            trace: traced.then(Vec::new),
        }
    }

    /// Lives it from the first request to the shutdown.
    pub fn live(&mut self) {
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
            self.check_wishes();
        }
        self.shut_down();
    }

    /// A cluster at rest meets reloads whose successors may fail.
    fn roll(&mut self) {
        self.os.behaves = true;
        for name in ["api", "web"] {
            let spec = wishes::spec(&mut self.rng, name);
            let apps = vec![AppSpec { mode: ExecMode::Cluster, autostart: true, ..spec }];
            self.ask(&Ask::Launch { apps, how: Launch::New });
        }
        self.settle();
        (self.os.behaves, self.rolling) = (false, true);
        for _ in 0..40 {
            self.step();
        }
        self.rolling = false;
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..50 => self.hear(),
            50..68 => self.wait(),
            68..72 => drop(self.tell(Input::Tick)),
            72..90 => {
                let (rng, supervisor) = (&mut self.rng, &self.supervisor);
                let reload = supervisor.apps().next().is_some() && (self.rolling || rng.percent(self.reloads));
                let ask = match reload {
                    true => wishes::reload(rng, supervisor),
                    false => wishes::ask(rng, supervisor, &self.saved),
                };
                self.ask(&ask);
            }
            90..92 => self.rumour(),
            92..96 => self.sample(),
            96..97 => self.saved = self.supervisor.snapshot(),
            97..98 => self.now = self.now.after(self.rng.millis(3_600_000)),
            _ => self.now = self.now.after(self.rng.millis(2_000)),
        }
    }

    /// The next news of the system, in its time or late.
    fn hear(&mut self) {
        let Some((at, run, news)) = self.os.take() else { return };
        if matches!(news, News::Crash(_)) && self.rolling && !self.is_successor(run) {
            return;
        }
        self.now = self.now.max(at);
        let input = self.os.happen(&mut self.rng, self.now, run, news);
        self.tell(input);
    }

    fn is_successor(&self, run: Run) -> bool {
        let process = self.supervisor.process_of(run);
        process.is_some_and(|process| match process.state {
            State::Launching { run: current, old: Some(_), .. } => current == run,
            _ => false,
        })
    }

    /// Time goes on to the deadline, or some way past it.
    fn wait(&mut self) {
        let Some(deadline) = self.supervisor.next_deadline() else { return };
        self.now = self.now.max(deadline);
        if self.rng.percent(30) {
            self.now = self.now.after(self.rng.millis(3_000));
        }
        self.tell(Input::Tick);
    }

    /// News of a run that is long dead, or never was.
    fn rumour(&mut self) {
        let run = Run(self.rng.below(self.supervisor.last_run + 3));
        if self.os.bodies.contains_key(&run) {
            return;
        }
        let exit = crate::protocol::Exit::Code(1);
        let input = match self.rng.below(8) {
            0 => Input::Spawned { run },
            1 => Input::SpawnFailed { run, error: "late".into(), permanent: true },
            2 => Input::Ready { run, proof: Proof::Listening },
            3 => Input::Ready { run, proof: Proof::Message },
            4 => Input::Drained { run },
            5 => Input::Exited { run, exit, survivors: self.rng.percent(50) },
            6 => Input::Emptied { run },
            _ => Input::Sampled { run, memory: 1 << 40 },
        };
        let effects = self.tell(input);
        assert!(effects.is_empty(), "news of the dead had effects: {effects:?}");
    }

    fn sample(&mut self) {
        let runs: Vec<Run> = self.os.bodies.keys().copied().collect();
        if !runs.is_empty() {
            let input = Input::Sampled { run: self.rng.pick(&runs), memory: self.rng.pick(&[1, 1 << 30]) };
            self.tell(input);
        }
    }

    /// Hands over one input, carries out what follows, and checks everything.
    fn tell(&mut self, input: Input) -> Vec<Effect> {
        self.cover(&input);
        let is_tick = matches!(input, Input::Tick);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {input:?}", self.now));
        }
        let before: Vec<AppId> = self.supervisor.apps.keys().copied().collect();
        let served = if self.rolling { invariants::serving(self) } else { BTreeMap::new() };
        let effects = self.supervisor.handle(self.now, input);
        if let Some(trace) = &mut self.trace {
            trace.extend(effects.iter().map(|effect| format!("    {effect:?}")));
        }
        self.carry_out(&effects);
        invariants::check(self, !effects.is_empty());
        invariants::check_effects(self, &effects, &before);
        if self.rolling {
            assert_eq!(served, invariants::serving(self), "a reload took somebody from the rotation");
        }
        let late = self.supervisor.next_deadline().is_some_and(|deadline| deadline <= self.now);
        assert!(!(is_tick && late), "a tick left something due");
        effects
    }

    fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            let spec = match effect {
                Effect::Spawn { process, .. } => self.supervisor.process(*process).map(|process| process.app),
                Effect::Drain { run, .. } => self.supervisor.process_of(*run).map(|process| process.app),
                _ => None,
            };
            let spec = spec.and_then(|app| self.supervisor.app(app)).map(|app| app.spec.clone());
            self.os.carry_out(&mut self.rng, self.now, spec.as_deref(), effect);
            match effect {
                Effect::Settle { ticket, .. } => assert!(self.open.remove(ticket), "{ticket:?} is answered twice"),
                Effect::ProcessRemoved { process } => {
                    self.wishes.remove(process);
                }
                _ => {}
            }
        }
    }

    fn cover(&mut self, input: &Input) {
        let (run, column) = match input {
            Input::Spawned { run } => (run, Column::Spawned),
            Input::SpawnFailed { run, .. } => (run, Column::SpawnFailed),
            Input::Ready { run, .. } => (run, Column::Ready),
            Input::Drained { run } => (run, Column::Drained),
            Input::Exited { run, .. } => (run, Column::Exited),
            Input::Emptied { run } => (run, Column::Emptied),
            Input::Sampled { run, .. } => (run, Column::Sampled),
            Input::Tick => {
                let all = self.supervisor.processes.values();
                return all.for_each(|process| self.coverage.note(process, Column::Tick));
            }
            Input::Ask { .. } => return,
        };
        if let Some(process) = self.supervisor.process_of(*run) {
            self.coverage.note(process, column);
        }
    }

    // The observer.

    fn ask(&mut self, ask: &Ask) {
        let named = self.named(ask);
        for id in &named {
            self.coverage.note(&self.supervisor.processes[id], column(ask));
        }
        let (before, closing) = (self.expect(ask, &named), self.supervisor.is_closing());
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.open.insert(ticket);
        let known: BTreeSet<AppId> = self.supervisor.apps.keys().copied().collect();
        let effects = self.tell(Input::Ask { ticket, ask: ask.clone() });
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Settle { answer: Err(_), .. }));
        assert!(refused || !closing || matches!(ask, Ask::ShutDown), "a closing daemon takes orders");
        if refused {
            assert_eq!(effects.len(), 1, "a refusal changes nothing");
            (self.wishes, self.quiet, self.counts) = before;
        } else if let Ask::Launch { apps, .. } = ask {
            self.expect_new(apps, &known);
        }
    }

    /// The processes a request is about.
    fn named(&self, ask: &Ask) -> Vec<ProcessId> {
        match ask {
            Ask::Act { target, .. } => self.supervisor.select(target).unwrap_or_default(),
            Ask::Launch { apps, .. } => {
                let known = apps.iter().filter_map(|spec| self.supervisor.find(spec));
                known.flat_map(|app| self.supervisor.staying(app.id)).collect()
            }
            Ask::Restore(_) | Ask::ShutDown => self.supervisor.processes.keys().copied().collect(),
        }
    }

    /// Writes down what the request wants, and returns the book as it was, in case it is refused.
    #[allow(clippy::type_complexity)]
    fn expect(
        &mut self,
        ask: &Ask,
        named: &[ProcessId],
    ) -> (BTreeMap<ProcessId, bool>, BTreeSet<AppId>, BTreeMap<AppId, u32>) {
        let before = (self.wishes.clone(), self.quiet.clone(), self.counts.clone());
        let apps: BTreeSet<AppId> = named.iter().map(|id| self.supervisor.processes[id].app).collect();
        let wish = match ask {
            Ask::Act { action: Action::Start(_) | Action::Restart(_), .. } => Some(true),
            Ask::Launch { how: Launch::New | Launch::OrRestart, .. } => Some(true),
            Ask::Act { action: Action::Stop | Action::Delete, .. } | Ask::ShutDown => Some(false),
            Ask::Act { action: Action::Reload { .. }, .. } | Ask::Launch { .. } => None,
            Ask::Act { action: Action::Scale(scale), .. } => {
                for app in apps {
                    self.quiet.remove(&app);
                    match scale {
                        Scale::To(count) => drop(self.counts.insert(app, *count)),
                        Scale::Up(_) | Scale::Down(_) => drop(self.counts.remove(&app)),
                    }
                }
                return before;
            }
            Ask::Act { .. } | Ask::Restore(_) => return before,
        };
        for id in named {
            match wish {
                Some(wish) => self.wishes.insert(*id, wish),
                None => self.wishes.remove(id),
            };
        }
        for app in apps {
            let whole = self.supervisor.staying(app).iter().all(|id| named.contains(id));
            if wish == Some(false) {
                self.counts.remove(&app);
                if whole {
                    self.quiet.insert(app);
                }
            } else {
                self.quiet.remove(&app);
            }
        }
        before
    }

    /// What a launch wants of apps that were not there, and how many it wants of each.
    fn expect_new(&mut self, specs: &[AppSpec], known: &BTreeSet<AppId>) {
        for spec in specs {
            let Some(app) = self.supervisor.find(spec).map(|app| app.id) else { continue };
            self.quiet.remove(&app);
            self.counts.insert(app, spec.instances);
            if !known.contains(&app) {
                for id in self.supervisor.staying(app) {
                    self.wishes.insert(id, spec.autostart);
                }
            }
        }
    }

    /// Everything behaves from now on: it must come to rest, soon, with every ticket answered.
    fn settle(&mut self) {
        self.os.calm_down(self.now);
        let latest = self.now.after(SETTLES_WITHIN);
        loop {
            let next = [self.os.next(), self.supervisor.next_deadline()].into_iter().flatten().min();
            let Some(next) = next else { break };
            if self.os.next() == Some(next) {
                self.hear();
            } else {
                self.now = self.now.max(next);
                self.tell(Input::Tick);
            }
            assert!(self.now <= latest, "it does not settle: {:?}", self.supervisor);
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.supervisor.waits);
        for process in self.supervisor.processes() {
            let rests = matches!(process.state, State::Stopped | State::Online(_) | State::Errored);
            assert!(rests && process.retiring.is_empty(), "not at rest: {process:?}");
        }
    }

    /// The last word of the operator holds, but for what ended by itself and is not to come back.
    fn check_wishes(&self) {
        for process in self.supervisor.processes() {
            let rule = &self.supervisor.apps[&process.app].spec.restart;
            let may_end = !rule.autorestart || !rule.stop_exit_codes.is_empty() || process.last_exit.is_some();
            let up = self.wishes.get(&process.id) == Some(&true);
            assert!(!up || process.goal == Goal::Up || may_end, "it was to be up: {process:?}");
        }
        for (app, count) in &self.counts {
            let staying = u32::try_from(self.supervisor.staying(*app).len()).expect("few");
            assert!(self.supervisor.app(*app).is_none() || staying == *count, "{app:?} has {staying}, not {count}");
        }
    }

    fn shut_down(&mut self) {
        let saved = self.supervisor.snapshot();
        let twice = self.rng.percent(15);
        self.ask(&Ask::ShutDown);
        if twice {
            self.ask(&Ask::ShutDown);
        }
        let late = self.rng.percent(10);
        if late {
            self.ask(&Ask::Restore(saved.clone()));
        }
        self.settle();
        assert!(self.os.bodies.is_empty(), "alive after the shutdown");
        self.supervisor = Supervisor { last_run: self.supervisor.last_run, ..Supervisor::default() };
        (self.wishes, self.quiet) = (BTreeMap::new(), BTreeSet::new());
        self.ask(&Ask::Restore(saved.clone()));
        assert_eq!(self.supervisor.snapshot(), saved, "what is restored is what was saved");
        if !twice {
            return;
        }
        self.settle();
        let up = |process: &&crate::supervisor::Process| process.goal == Goal::Up;
        let online = self.supervisor.processes().filter(up).all(invariants::serves);
        assert!(online, "restored and not up: {:?}", self.supervisor);
    }
}
