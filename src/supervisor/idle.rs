//! Which processes stop while no client connects, and which start again.
//!
//! The shell reports when no client was connected for the idle timeout, and when connections wait for longer than they
//! should. The first makes the processes beyond `min_instances` idle, the highest numbers first; the second starts one,
//! the lowest. While an operation on the app is under way, none becomes idle.

use super::id::{AppId, ProcessId};
use super::input::Effect;
use super::moment::Moment;
use super::process::{Goal, Process};
use super::state::Supervisor;

impl Supervisor {
    /// True if processes of the app may rest.
    pub(crate) fn may_rest(&self, app: AppId) -> bool {
        self.apps.get(&app).is_some_and(|app| {
            let activation = &app.spec.activation;
            activation.idle_timeout.is_some() && !activation.listen.is_empty()
        })
    }

    pub(crate) fn app_idle(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        if self.closing || !self.may_rest(app) || !self.apps[&app].operations.is_empty() {
            return;
        }
        let least = self.apps[&app].spec.activation.min_instances.unwrap_or(0);
        let serving = self.by_instance(app, |process| process.goal == Goal::Up && process.serves());
        for id in serving.into_iter().skip(least as usize) {
            self.with_process(now, id, effects, Process::go_idle);
        }
        self.advance(now, app, effects);
    }

    pub(crate) fn app_in_demand(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        if self.closing {
            return;
        }
        let resting = self.by_instance(app, |process| process.goal == Goal::Up && process.rests());
        // A process whose old run is still stopping comes last: two runs of it would be alive at once.
        let asleep = resting.iter().find(|id| self.processes[id].is_empty());
        if let Some(id) = asleep.or(resting.first()).copied() {
            self.with_process(now, id, effects, Process::wake);
            self.advance(now, app, effects);
        }
    }

    /// The processes of an app that meet a condition, by instance number.
    fn by_instance(&self, app: AppId, is_so: impl Fn(&Process) -> bool) -> Vec<ProcessId> {
        let mut found: Vec<&Process> = self.members(app).filter(|process| is_so(process)).collect();
        found.sort_by_key(|process| process.instance);
        found.into_iter().map(|process| process.id).collect()
    }
}
