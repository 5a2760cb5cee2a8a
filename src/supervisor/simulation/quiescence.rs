//! The end of a history: everything behaves, and all must come to rest; then a shutdown must leave nothing alive.

use std::time::Duration;

use super::history::History;
use super::invariants;
use super::observer::Expectations;
use super::sequence;
use crate::protocol::Run;
use crate::supervisor::{Goal, Input, Process, Request, Serving, State, Supervisor};

/// After the chaos everything must settle within this much virtual time.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);

impl History {
    /// Everything behaves from now on: it must come to rest, soon, with every ticket answered.
    pub(crate) fn settle(&mut self) {
        self.os.make_well_behaved(self.now);
        let latest = self.now.after(SETTLES_WITHIN);
        loop {
            self.finish_jobs();
            let next = [self.os.next(), self.supervisor.next_deadline()].into_iter().flatten().min();
            let Some(next) = next else { break };
            if self.os.next().is_none() && self.only_watches() {
                break;
            }
            if self.os.next() == Some(next) {
                self.next_event();
            } else {
                self.now = self.now.max(next);
                self.all_live();
                self.handle(&Input::Tick);
            }
            assert!(self.now <= latest, "it does not settle: {:?}", self.supervisor);
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.supervisor.waits);
        assert!(self.supervisor.apps().all(|app| app.operations.is_empty()), "never done: {:?}", self.supervisor.apps);
        for process in self.supervisor.processes() {
            let rests = matches!(process.state, State::Stopped | State::Online(_) | State::Idle | State::Errored);
            assert!(rests && process.retiring.is_empty(), "not at rest: {process:?}");
        }
    }

    /// Jobs whose end others wait for come to it.
    fn finish_jobs(&mut self) {
        let awaited: Vec<Run> = sequence::awaited(&self.supervisor);
        awaited.into_iter().for_each(|run| self.os.finish(self.now, run));
    }

    /// True if nothing falls due except watchdog pings.
    fn only_watches(&self) -> bool {
        let rests = |process: &Process| matches!(process.state, State::Online(_)) && process.retiring.is_empty();
        let at_work = self.supervisor.apps().any(|app| !app.operations.is_empty());
        !at_work && self.supervisor.processes().all(|process| process.deadline().is_none() || rests(process))
    }

    /// Every run whose watchdog is due sends its ping.
    fn all_live(&mut self) {
        let serving = |process: &Process| match process.state {
            State::Online(serving) => vec![serving],
            State::Canary { new, old } => vec![new, old],
            State::Stopped
            | State::Launching { .. }
            | State::Stopping(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => vec![],
        };
        let due = |serving: &Serving| serving.silent_until <= Some(self.now);
        let due: Vec<Run> =
            self.supervisor.processes().flat_map(serving).filter(due).map(|serving| serving.run).collect();
        due.into_iter().for_each(|run| drop(self.handle(&Input::WatchdogPing { run })));
    }

    pub(crate) fn shut_down(&mut self) {
        let saved = self.supervisor.snapshot();
        let twice = self.rng.percent(15);
        self.ask(&Request::ShutDown);
        while !self.supervisor.is_closing() {
            self.ask(&Request::ShutDown);
        }
        if twice {
            self.ask(&Request::ShutDown);
        }
        let late = self.rng.percent(10);
        if late {
            self.ask(&Request::Restore(saved.clone()));
        }
        self.settle();
        assert!(self.os.bodies.is_empty(), "alive after the shutdown");
        (self.crash_percent, self.reference) = (0, None);
        self.supervisor = Supervisor { last_run: self.supervisor.last_run, ..Supervisor::default() };
        self.expectations = Expectations::default();
        self.ask(&Request::Restore(saved.clone()));
        let restored = sequence::without_jobs(self.supervisor.snapshot());
        assert_eq!(restored, sequence::without_jobs(saved), "what is restored is what was saved");
        if !twice {
            return;
        }
        self.settle();
        let up = |process: &&Process| process.goal == Goal::Up;
        let comes_up = |process: &Process| {
            invariants::serves(process)
                || process.state == State::Idle
                || (process.state == State::Errored && sequence::lacks(&self.supervisor, process.app))
        };
        let down: Vec<&Process> = self.supervisor.processes().filter(up).filter(|process| !comes_up(process)).collect();
        assert!(down.is_empty(), "restored and not up: {down:?}");
    }
}
