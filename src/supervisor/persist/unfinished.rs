//! What a daemon that died may have left undone.

use crate::protocol::Run;
use crate::supervisor::id::AppId;
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;
use crate::supervisor::persist::key::RecordKey;
use crate::supervisor::process::{State, StopStage, StoppingRun};
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// Gives no run up to this one: the last records may be lost, and with them the process that had it.
    pub fn skip_runs_to(&mut self, run: Run) {
        if self.last_run < run.0 {
            self.last_run = run.0;
            self.touch(RecordKey::Meta);
        }
    }

    /// What a daemon that died may not have carried out, to be carried out in this order unless it was: first the
    /// listeners of apps that are down or have idle processes, then what concerns runs, by process.
    #[must_use]
    pub fn unfinished(&self, now: Moment) -> Vec<Effect> {
        let is_idle = |app: &AppId| self.members(*app).any(|process| process.state == State::Idle);
        // Before all else: what is carried out next may bring news that start an app that is down by now.
        let down = self.apps.keys().filter(|app| self.is_down(**app));
        let mut effects: Vec<Effect> = down.map(|app| Effect::CloseListeners { app: *app }).collect();
        let idle = self.apps.keys().filter(|app| is_idle(app));
        effects.extend(idle.map(|app| Effect::WatchForDemand { app: *app }));
        for process in self.processes.values() {
            match &process.state {
                State::Launching { run, .. } => effects.push(Effect::Spawn { run: *run, process: process.id }),
                State::Stopping(stopping) => effects.push(stopping.order(now)),
                State::Stopped
                | State::Canary { .. }
                | State::Online(_)
                | State::Waiting { .. }
                | State::Idle
                | State::Errored => {}
            }
            effects.extend(process.retiring.iter().map(|stopping| stopping.order(now)));
        }
        effects
    }
}

impl StoppingRun {
    /// The effect that carries out its present stage.
    fn order(&self, now: Moment) -> Effect {
        let run = self.run;
        match self.stage {
            StopStage::Draining { until } => Effect::Drain { run, grace: until.since(now) },
            StopStage::Terminating { .. } => Effect::Terminate { run },
            StopStage::Killing { .. } => Effect::Kill { run },
        }
    }
}
