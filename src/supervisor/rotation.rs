//! Which ready runs get new connections: the healthy ones; if none is healthy, all.
//!
//! It is Kubernetes' readiness probe, after which a pod that fails is no endpoint of its service, and Envoy's panic
//! threshold: when all fail, it may be the check that errs, and a bad answer is better than none. Only failures that
//! are surely the worker's own count ([`Fault::Own`](super::Fault)).
//!
//! Which runs are ejected follows from the state alone. It is computed anew after each input, and the difference
//! emitted, so that no transition can forget it.

use std::collections::BTreeSet;

use super::id::AppId;
use super::input::Effect;
use super::process::Process;
use super::state::Supervisor;
use crate::protocol::Run;

impl Supervisor {
    /// True if a run is ready and out of rotation: it fails its checks, and another of its app passes.
    #[must_use]
    pub fn is_ejected(&self, run: Run) -> bool {
        self.last_ejected.contains(&run)
    }

    pub(super) fn ejected(&self) -> BTreeSet<Run> {
        let has_unfit = |process: &&Process| process.serving().any(|(_, condition)| condition.is_unfit());
        let apps: BTreeSet<AppId> = self.processes.values().filter(has_unfit).map(|process| process.app).collect();
        apps.into_iter().flat_map(|app| self.ejected_of(app)).collect()
    }

    fn ejected_of(&self, app: AppId) -> Vec<Run> {
        let serving = self.members(app).flat_map(Process::serving);
        let (unfit, fit): (Vec<_>, Vec<_>) = serving.partition(|(_, condition)| condition.is_unfit());
        let others_serve = !fit.is_empty() && self.apps[&app].spec.checks_each_worker();
        unfit.into_iter().filter(|_| others_serve).map(|(run, _)| run).collect()
    }

    /// Emits what has changed. Admissions come before all other effects: the runs they replace may be about to drain.
    pub(super) fn rotate(&mut self, effects: &mut Vec<Effect>) {
        let last_ejected = self.ejected();
        if last_ejected == self.last_ejected {
            return;
        }
        let before = std::mem::replace(&mut self.last_ejected, last_ejected);
        let serves =
            |run: &Run| self.process_of(*run).is_some_and(|process| process.serving().any(|(it, _)| it == *run));
        let back = before.difference(&self.last_ejected).copied().filter(serves);
        effects.splice(0..0, back.map(|run| Effect::Admit { run }).collect::<Vec<_>>());
        effects.extend(self.last_ejected.difference(&before).map(|run| Effect::Eject { run: *run }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Action, Canary, Exit, Launch, Rollout, Scale, Share};
    use crate::spec::health::{Health, OnFail, Probe};
    use crate::spec::{AppSpec, ExecMode};
    use crate::supervisor::harness::{Harness, cluster, drain, reload};
    use crate::supervisor::{Fault, Input};

    /// Workers that are probed one by one, unhealthy after two failures, and not restarted.
    fn checked(instances: u32) -> AppSpec {
        let probe = Probe::Http { address: None, path: "/up".to_owned() };
        let health = Health { retries: 2, on_fail: OnFail::None, ..Health::new(probe) };
        AppSpec { health: Some(health), ..cluster(instances) }
    }

    /// All of them passed.
    fn well(spec: &AppSpec) -> Harness {
        let mut harness = Harness::with(spec.clone());
        (1..=u64::from(spec.instances)).for_each(|run| pass(&mut harness, run));
        harness
    }

    fn pass(harness: &mut Harness, run: u64) {
        harness.input(Input::Checked { run: Run(run), fault: None });
    }

    fn fail(harness: &mut Harness, run: u64) {
        for _ in 0..2 {
            harness.input(Input::Checked { run: Run(run), fault: Some(Fault::Own("status 500".to_owned())) });
        }
    }

    fn rotation(harness: &Harness) -> Vec<u64> {
        let serves = |run: &Run| {
            harness.supervisor.process_of(*run).is_some_and(|process| process.staying().any(|it| it == *run))
        };
        harness.rotation.iter().filter(|run| serves(run)).map(|run| run.0).collect()
    }

    #[test]
    fn unhealthy_workers_are_ejected_while_others_are_healthy() {
        let mut harness = well(&checked(3));
        assert_eq!(rotation(&harness), [1, 2, 3]);
        harness.input(Input::Checked { run: Run(1), fault: Some(Fault::Own("no answer".to_owned())) });
        assert_eq!(rotation(&harness), [1, 2, 3], "once is not enough");
        fail(&mut harness, 1);
        assert_eq!(rotation(&harness), [2, 3]);
        fail(&mut harness, 3);
        assert_eq!(rotation(&harness), [2]);
        fail(&mut harness, 2);
        assert_eq!(rotation(&harness), [1, 2, 3], "a bad answer is better than none");
        pass(&mut harness, 3);
        assert_eq!(rotation(&harness), [3]);
        pass(&mut harness, 1);
        assert_eq!(rotation(&harness), [1, 3]);
    }

    #[test]
    fn the_unhealthy_workers_are_admitted_before_the_last_healthy_worker_leaves() {
        let mut harness = well(&checked(2));
        fail(&mut harness, 2);
        harness.exit(1, 1);
        assert_eq!(rotation(&harness), [2]);
        pass(&mut harness, 3);
        assert_eq!(rotation(&harness), [3], "the successor is healthy");

        let mut harness = well(&checked(2));
        fail(&mut harness, 1);
        let stop = Action::Scale(Scale::To(1));
        let effects = harness.supervisor.handle(harness.now, ask(stop));
        let at = |effect: &Effect| effects.iter().position(|it| it == effect);
        assert!(at(&Effect::Admit { run: Run(1) }) < at(&drain(2)), "{effects:?}");
        assert!(at(&drain(2)).is_some());
    }

    fn ask(action: Action) -> Input {
        let target = vec![crate::spec::target::Selector::All];
        Input::Request {
            ticket: crate::supervisor::Ticket(99),
            ask: crate::supervisor::Request::Act { action, target },
        }
    }

    #[test]
    fn in_a_reload_the_rotation_follows_the_checks_of_each_run() {
        let mut harness = well(&checked(2));
        fail(&mut harness, 1);
        harness.act(reload(), "api");
        assert_eq!(rotation(&harness), [2], "its successor is not there yet");
        pass(&mut harness, 1);
        assert_eq!(rotation(&harness), [1, 2], "it recovers beside its successor");
        fail(&mut harness, 1);
        harness.exit(3, 1);
        assert_eq!(rotation(&harness), [2], "and is what it was when that has failed");
        assert!(harness.process(0).is_unhealthy());
        harness.act(reload(), "api");
        pass(&mut harness, 4);
        assert_eq!(rotation(&harness), [2, 4]);
    }

    #[test]
    fn the_health_of_a_canary_and_of_its_predecessor_is_kept_apart() {
        let mut harness = well(&checked(1));
        fail(&mut harness, 1);
        assert_eq!(rotation(&harness), [1]);
        let canary = Canary { share: Share::Count(1), duration: Duration::from_secs(9) };
        let rollout = Rollout { canary: Some(canary), ..Rollout::waves(1) };
        harness.launch(checked(1), Launch::OrReload(rollout));
        pass(&mut harness, 2);
        assert_eq!(rotation(&harness), [2], "both are ready");
        fail(&mut harness, 2);
        assert_eq!(rotation(&harness), [1], "it was taken back");
    }

    #[test]
    fn a_worker_that_shares_its_probe_is_not_ejected() {
        let somewhere = Probe::Http { address: Some("127.0.0.1:80".to_owned()), path: "/up".to_owned() };
        let common = AppSpec { health: checked(1).health.map(|it| Health { probe: somewhere, ..it }), ..checked(2) };
        let single = AppSpec { mode: ExecMode::Fork, ..checked(2) };
        for spec in [common, single] {
            let mut harness = well(&spec);
            fail(&mut harness, 1);
            assert_eq!(rotation(&harness), [1, 2]);
        }
        let mut harness = well(&checked(2));
        for _ in 0..9 {
            let fault = Some(Fault::Unattributed("it cannot be asked alone".to_owned()));
            harness.input(Input::Checked { run: Run(1), fault });
        }
        assert!(harness.process(0).is_unhealthy());
        assert_eq!(rotation(&harness), [1, 2]);
        // The next release has no such check, so no pass would ever admit the worker again.
        fail(&mut harness, 1);
        assert_eq!(rotation(&harness), [2]);
        harness.launch(cluster(2), Launch::OrReload(Rollout::waves(1)));
        assert_eq!(rotation(&harness), [1, 2]);
    }

    #[test]
    fn the_next_daemon_has_the_same_rotation() {
        let mut harness = well(&checked(2));
        fail(&mut harness, 2);
        let records: Vec<_> = harness.supervisor.all_records().collect();
        let read = records.iter().map(|(key, text)| (*key, text.as_str()));
        harness.supervisor = Supervisor::from_records(read).unwrap();
        assert!(harness.supervisor.is_ejected(Run(2)) && !harness.supervisor.is_ejected(Run(1)));
        harness.input(Input::Exited { run: Run(1), exit: Exit::Code(1), survivors: false });
        assert_eq!(rotation(&harness), [2]);
    }
}
