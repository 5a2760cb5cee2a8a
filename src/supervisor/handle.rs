//! The two entries: what follows from an input, and when the supervisor is to be called again.

use std::collections::BTreeSet;

use super::input::{Effect, Input};
use super::moment::Moment;
use super::operation::Operation;
use super::process::Process;
use super::state::Supervisor;

impl Supervisor {
    /// Handles one input and returns the effects to carry out, in order.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Request { ticket, ask } => self.ask(now, ticket, ask, &mut effects),
            Input::Spawned { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.spawned(transition, run));
            }
            Input::SpawnFailed { run, error, permanent } => {
                self.with_run(now, run, &mut effects, |process, transition| {
                    process.spawn_failed(transition, run, &error, permanent);
                });
            }
            Input::Listening { run, address } => {
                self.with_run(now, run, &mut effects, |process, transition| process.listens(transition, run, address));
            }
            Input::Ready { run, proof } => {
                self.with_run(now, run, &mut effects, |process, transition| process.ready(transition, run, proof));
            }
            Input::ListenFailed { run, why } => {
                self.with_run(now, run, &mut effects, |process, _| process.listen_failed(run, why));
            }
            Input::Drained { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.drained(transition, run));
            }
            Input::Exited { run, exit, survivors } => self.with_run(now, run, &mut effects, |process, transition| {
                process.exited(transition, run, exit, survivors);
            }),
            Input::TreeExited { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.tree_exited(transition, run));
            }
            Input::Delayed { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.delayed(transition, run));
            }
            Input::Checked { run, fault } => self.checked(now, run, fault, &mut effects),
            Input::Sampled { run, memory } => self.sampled(now, run, memory, &mut effects),
            Input::StderrLines { run, lines } => self.stderr_lines(now, run, lines, &mut effects),
            Input::WatchdogPing { run } => {
                self.with_run(now, run, &mut effects, |process, transition| process.watchdog_pinged(transition, run));
            }
            Input::WatchdogTrigger { run } => {
                self.with_run(now, run, &mut effects, |process, transition| {
                    process.watchdog_triggered(transition, run);
                });
            }
            Input::Idle { app } => self.app_idle(now, app, &mut effects),
            Input::Demand { app } => self.app_in_demand(now, app, &mut effects),
            Input::Tick => self.tick(now, &mut effects),
        }
        self.rotate(&mut effects);
        self.settle_listeners(&mut effects);
        effects
    }

    /// Each process that stops proposes to close the listeners of its app. The proposal stands if the whole app is down
    /// by now, once an app: another process may be wanted, or the same process may have been started again meanwhile.
    fn settle_listeners(&self, effects: &mut Vec<Effect>) {
        let mut closed = BTreeSet::new();
        effects.retain(|effect| {
            let Effect::CloseListeners { app } = effect else { return true };
            self.is_down(*app) && closed.insert(*app)
        });
    }

    /// When to come back with a tick, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let operations = self.apps.values().flat_map(|app| &app.operations).filter_map(Operation::deadline);
        self.processes.values().filter_map(Process::deadline).chain(operations).min()
    }

    /// Does what is due, until nothing is: what is done for one process lets operations go on, which may do something
    /// to others, remove them, or give them a timeout of zero.
    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        loop {
            let due = |process: &Process| process.deadline().is_some_and(|deadline| deadline <= now);
            let process = self.processes.values().find(|process| due(process)).map(|process| process.id);
            let is_due = |operation: &Operation| operation.deadline().is_some_and(|deadline| deadline <= now);
            let app = match process {
                Some(id) => self.with_process(now, id, effects, Process::tick),
                None => match self.apps.values().find(|app| app.operations.iter().any(is_due)) {
                    Some(app) => app.id,
                    None => return,
                },
            };
            self.advance(now, app, effects);
        }
    }
}
