//! The harness of the supervisor's tests: one supervisor, a clock in milliseconds, and the answers it gave.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::{Effect, Input, Moment, Process, ProcessId, Proof, Request, State, Supervisor, Ticket};
use crate::protocol::{Action, Changes, Exit, Launch, Refusal, Report, Rollout, Run, Verdict};
use crate::spec::target::Selector;
use crate::spec::{self, AppSpec, ExecMode, Program, StopRule};

/// A cluster of so many workers, with PM2's numbers and a drain of 5 s.
pub fn cluster(instances: u32) -> AppSpec {
    AppSpec {
        name: "api".to_owned(),
        program: Program::Binary { path: PathBuf::from("/bin/api") },
        mode: ExecMode::Cluster,
        instances,
        stop: StopRule { drain_timeout: Duration::from_secs(5), ..StopRule::default() },
        ..spec::sample()
    }
}

/// The same as independent processes.
pub fn fork(instances: u32) -> AppSpec {
    AppSpec { mode: ExecMode::Fork, ..cluster(instances) }
}

pub fn reload() -> Action {
    Action::Reload { changes: Changes::default(), rollout: Rollout::waves(1) }
}

pub struct Harness {
    pub supervisor: Supervisor,
    pub now: Moment,
    /// Answers, oldest first.
    pub answers: Vec<Result<Report, Refusal>>,
    /// The runs in rotation, by the effects so far.
    pub rotation: BTreeSet<Run>,
    tickets: u64,
}

impl Harness {
    /// A supervisor with this app, its processes ready as runs 1, 2, 3 …
    pub fn with(spec: AppSpec) -> Harness {
        let supervisor = Supervisor::default();
        let mut harness =
            Harness { supervisor, now: Moment(1000), answers: vec![], rotation: BTreeSet::new(), tickets: 0 };
        harness.launch(spec, Launch::New);
        harness.up();
        harness
    }

    /// Reports every launching run as spawned and ready.
    pub fn up(&mut self) {
        let launching = |process: &Process| match process.state {
            State::Launching { run, .. } => Some(run),
            State::Stopped
            | State::Canary { .. }
            | State::Online(_)
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => None,
        };
        let runs: Vec<Run> = self.supervisor.processes().filter_map(launching).collect();
        for run in runs {
            self.input(Input::Spawned { run });
            self.ready(run.0);
        }
    }

    pub fn launch(&mut self, spec: AppSpec, how: Launch) -> Vec<Effect> {
        self.ask(Request::Launch { apps: vec![spec], how })
    }

    pub fn act(&mut self, action: Action, target: &str) -> Vec<Effect> {
        let target = vec![Selector::parse(target).expect("a selector")];
        self.ask(Request::Act { action, target })
    }

    pub fn ask(&mut self, ask: Request) -> Vec<Effect> {
        self.tickets += 1;
        self.input(Input::Request { ticket: Ticket(self.tickets), ask })
    }

    /// Effects on runs; answers and the rotation are put aside, events and removals left out.
    pub fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.supervisor.handle(self.now, input);
        effects.retain(|effect| match effect {
            Effect::Settle { answer, .. } => {
                self.answers.push(answer.clone());
                false
            }
            Effect::Admit { run } => {
                self.rotation.insert(*run);
                false
            }
            Effect::Eject { run } => {
                self.rotation.remove(run);
                false
            }
            Effect::Publish { .. }
            | Effect::Serve { .. }
            | Effect::UpdatePidFile { .. }
            | Effect::WatchForDemand { .. }
            | Effect::CloseListeners { .. }
            | Effect::ProcessRemoved { .. }
            | Effect::AppRemoved { .. } => false,
            Effect::Spawn { .. }
            | Effect::Drain { .. }
            | Effect::Terminate { .. }
            | Effect::Kill { .. }
            | Effect::Signal { .. } => true,
        });
        effects
    }

    pub fn ready(&mut self, run: u64) -> Vec<Effect> {
        self.input(Input::Ready { run: Run(run), proof: Proof::Message })
    }

    pub fn exit(&mut self, run: u64, code: i32) -> Vec<Effect> {
        self.input(Input::Exited { run: Run(run), exit: Exit::Code(code), survivors: false })
    }

    /// It ends and leaves children behind.
    pub fn abandon(&mut self, run: u64) -> Vec<Effect> {
        self.input(Input::Exited { run: Run(run), exit: Exit::Code(1), survivors: true })
    }

    /// Time passes.
    pub fn pass(&mut self, millis: u64) -> Vec<Effect> {
        self.now = Moment(self.now.0 + millis);
        self.input(Input::Tick)
    }

    pub fn process(&self, id: u32) -> &Process {
        self.supervisor.process(ProcessId(id)).expect("it is in the list")
    }

    /// Verdicts of the last answer, in order.
    pub fn verdicts(&self) -> Vec<(u32, Verdict)> {
        let report = self.answers.last().expect("an answer").as_ref().expect("no refusal");
        report.lines.iter().map(|line| (line.id, line.verdict.clone())).collect()
    }
}

pub fn spawn(run: u64, process: u32) -> Effect {
    Effect::Spawn { run: Run(run), process: ProcessId(process) }
}

pub fn terminate(run: u64) -> Effect {
    Effect::Terminate { run: Run(run) }
}

pub fn kill(run: u64) -> Effect {
    Effect::Kill { run: Run(run) }
}

pub fn drain(run: u64) -> Effect {
    Effect::Drain { run: Run(run), grace: Duration::from_secs(5) }
}
