//! Who rests while nobody connects, and who wakes.
//!
//! The shell tells when nobody was connected for the idle timeout, and when connections wait for longer than they
//! should. The first puts the processes beyond `min_instances` to rest, the highest numbers first; the second wakes one,
//! the lowest. While something is being done to an app nobody lies down.

use super::{AppId, Effect, Goal, Moment, Process, ProcessId, Supervisor};

impl Supervisor {
    /// True if processes of the app may rest.
    pub(crate) fn may_rest(&self, app: AppId) -> bool {
        self.apps.get(&app).is_some_and(|app| {
            let activation = &app.spec.activation;
            activation.idle_timeout.is_some() && !activation.listen.is_empty()
        })
    }

    pub(crate) fn unneeded(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        if self.closing || !self.may_rest(app) || !self.apps[&app].operations.is_empty() {
            return;
        }
        let least = self.apps[&app].spec.activation.min_instances.unwrap_or(0);
        let serving = self.by_instance(app, |process| process.goal == Goal::Up && process.serves());
        for id in serving.into_iter().skip(least as usize) {
            self.with_process(now, id, effects, Process::rest);
        }
        self.advance(now, app, effects);
    }

    pub(crate) fn wanted(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        if self.closing {
            return;
        }
        let resting = self.by_instance(app, |process| process.goal == Goal::Up && process.rests());
        // One that is still on its way out has better things to do than to make room.
        let asleep = resting.iter().find(|id| self.processes[id].is_empty());
        if let Some(id) = asleep.or(resting.first()).copied() {
            self.with_process(now, id, effects, Process::wake);
            self.advance(now, app, effects);
        }
    }

    /// The processes of an app that are so, by number within it.
    fn by_instance(&self, app: AppId, is_so: impl Fn(&Process) -> bool) -> Vec<ProcessId> {
        let mut found: Vec<&Process> = self.members(app).filter(|process| is_so(process)).collect();
        found.sort_by_key(|process| process.instance);
        found.into_iter().map(|process| process.id).collect()
    }
}
