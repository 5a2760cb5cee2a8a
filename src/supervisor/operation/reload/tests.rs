//! Reloads as transactions, as short scenarios.

use std::time::Duration;

use crate::protocol::{Action, Canary, Changes, EventKind, Exit, Launch, Rollout, Run, Share, Stage, Step, Verdict};
use crate::spec::health::{Health, OnFail, Probe};
use crate::spec::target::Selector;
use crate::spec::{AppSpec, OnReloadFailure, RestartRule};
use crate::supervisor::harness::{Harness, cluster, drain, fork, reload, spawn, terminate};
use crate::supervisor::{Effect, Fault, Input, Process, Request, State, Ticket};

fn canary(count: u32, watch: u64) -> Action {
    let canary = Canary { share: Share::Count(count), duration: Duration::from_secs(watch) };
    Action::Reload { changes: Changes::default(), rollout: Rollout { canary: Some(canary), ..Rollout::waves(1) } }
}

/// The same app with other arguments.
fn newer(instances: u32) -> AppSpec {
    AppSpec { args: vec!["--new".to_owned()], ..cluster(instances) }
}

#[test]
fn a_failed_reload_rolls_replaced_workers_back_to_the_old_spec() {
    let mut harness = Harness::with(cluster(2));
    assert_eq!(harness.launch(newer(2), Launch::OrReload(Rollout::waves(1))), [spawn(3, 0)]);
    harness.ready(3);
    assert_eq!(harness.exit(1, 0), [spawn(4, 1)]);
    assert_eq!(harness.exit(4, 1), [spawn(5, 0)], "the first goes back");
    assert!(harness.supervisor.apps().next().unwrap().spec.args.is_empty());
    assert_eq!(harness.ready(5), [drain(3)], "by a successor, like any other");
    harness.exit(3, 0);
    let reason = "exited with code 1 before it was ready".to_owned();
    let failed = Verdict::Failed { reason, old_serves: true };
    assert_eq!(harness.verdicts(), [(0, Verdict::RolledBack), (1, failed)]);
}

#[test]
fn a_failure_rolls_back_the_other_workers_in_flight_at_once() {
    let mut harness = Harness::with(cluster(2));
    harness.launch(newer(2), Launch::OrReload(Rollout::waves(2)));
    assert_eq!(harness.exit(3, 1), [terminate(4)]);
    assert!(matches!(&harness.verdicts()[..], [(0, Verdict::Failed { .. }), (1, Verdict::RolledBack)]));
    assert!(harness.supervisor.processes().all(Process::serves));
}

#[test]
fn a_fork_is_rolled_back_by_a_restart() {
    let mut harness = Harness::with(fork(1));
    let broken = AppSpec { restart: RestartRule { max_restarts: 1, ..fork(1).restart }, ..newer(1) };
    harness.launch(AppSpec { mode: fork(1).mode, ..broken }, Launch::OrReload(Rollout::waves(1)));
    harness.exit(1, 0);
    harness.input(Input::SpawnFailed { run: Run(2), error: "gone".into(), permanent: true });
    assert!(matches!(harness.process(0).state, State::Launching { run: Run(3), .. }));
    harness.up();
    let reason = "gone; the previous release was started again".to_owned();
    assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason, old_serves: false })]);
}

#[test]
fn canaries_serve_beside_their_predecessors_until_the_watch_ends() {
    let mut harness = Harness::with(cluster(3));
    assert_eq!(harness.act(canary(1, 30), "api"), [spawn(4, 0)]);
    assert_eq!(harness.ready(4), [], "the old one serves on");
    assert_eq!(harness.supervisor.next_deadline(), Some(harness.now.after(Duration::from_secs(30))));
    assert_eq!(harness.pass(29_999), []);
    assert_eq!(harness.pass(1), [drain(1)]);
    assert_eq!(harness.exit(1, 0), [spawn(5, 1)], "the rest follows");
}

#[test]
fn a_canary_that_dies_is_rolled_back_and_no_other_worker_is_touched() {
    let mut harness = Harness::with(cluster(3));
    harness.act(canary(2, 30), "api");
    harness.ready(4);
    harness.ready(5);
    harness.pass(5000);
    assert_eq!(harness.exit(4, 1), [drain(5)], "it may have clients");
    let reason = "exited with code 1 while it was observed".to_owned();
    let failed = Verdict::Failed { reason, old_serves: true };
    assert_eq!(harness.verdicts(), [(0, failed), (1, Verdict::RolledBack)]);
    assert_eq!(harness.supervisor.processes().filter_map(Process::current_run).collect::<Vec<_>>(), [1, 2, 3].map(Run));
}

#[test]
fn a_canary_that_writes_many_more_errors_is_rolled_back() {
    let errors = |run, lines| Input::StderrLines { run: Run(run), lines };
    let mut harness = Harness::with(cluster(2));
    harness.input(errors(1, 1000));
    harness.act(canary(1, 30), "api");
    assert_eq!(harness.supervisor.judged_by_errors().count(), 0, "not before it is ready");
    harness.ready(3);
    assert_eq!(harness.supervisor.judged_by_errors().collect::<Vec<_>>(), [3, 1, 2].map(Run));
    for lines in [errors(2, 8), errors(3, 10), errors(3, 14)] {
        assert_eq!(harness.input(lines), [], "three times as many are not too many");
    }
    assert_eq!(harness.input(errors(3, 1)), [drain(3)]);
    let reason =
        "wrote 25 lines to standard error while it was observed; the previous release wrote 8 in the same time";
    assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason: reason.into(), old_serves: true })]);
    assert_eq!(harness.supervisor.judged_by_errors().count(), 0);
}

#[test]
fn a_stop_ends_the_watch_of_a_canary() {
    let mut harness = Harness::with(cluster(1));
    harness.act(canary(1, 30), "api");
    harness.ready(2);
    assert_eq!(harness.act(Action::Stop, "api"), [terminate(2), terminate(1)]);
    harness.exit(1, 0);
    harness.exit(2, 0);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
}

#[test]
fn a_forced_reload_goes_on_with_workers_that_prove_nothing() {
    let mut harness = Harness::with(cluster(2));
    let rollout = Rollout { force: true, ..Rollout::waves(1) };
    assert_eq!(harness.act(Action::Reload { changes: Changes::default(), rollout }, "api"), [spawn(3, 0)]);
    assert_eq!(harness.exit(3, 1), [spawn(4, 1)]);
    assert_eq!(harness.pass(30_000), [drain(2)]);
    harness.exit(2, 0);
    assert!(matches!(&harness.verdicts()[..], [(0, Verdict::Failed { .. }), (1, Verdict::Done)]));
}

#[test]
fn the_spec_can_leave_a_failed_reload_as_it_is() {
    let mut harness = Harness::with(cluster(3));
    let pausing = AppSpec { on_reload_failure: OnReloadFailure::Pause, ..newer(3) };
    harness.launch(pausing, Launch::OrReload(Rollout::waves(1)));
    harness.ready(4);
    harness.exit(1, 0);
    assert_eq!(harness.exit(5, 1), []);
    assert!(matches!(&harness.verdicts()[..], [(0, Verdict::Done), (1, Verdict::Failed { .. })]));
}

#[test]
fn a_reload_waits_for_a_begun_reload_and_replaces_a_waiting_one() {
    let mut harness = Harness::with(cluster(1));
    let held = [1, 2, 3].map(|n| {
        let ask = Request::Act { action: reload(), target: vec![Selector::All] };
        let effects = harness.supervisor.handle(harness.now, Input::Request { ticket: Ticket(n), ask });
        harness.answers.extend(effects.iter().filter_map(|effect| {
            let Effect::Settle { answer, .. } = effect else { return None };
            Some(answer.clone())
        }));
        effects.into_iter().find_map(|effect| {
            let Effect::Publish { kind: EventKind::Held { why }, .. } = effect else { return None };
            Some(why)
        })
    });
    let held = held.each_ref().map(Option::as_deref);
    let waits = "its reload waits for the reload before it";
    assert_eq!(held, [None, Some(waits), Some("its reload takes the place of one that waited")]);
    assert_eq!(harness.verdicts(), [(0, Verdict::Superseded { by: "reload".to_owned() })]);
    harness.ready(2);
    assert_eq!(harness.exit(1, 0), [spawn(3, 0)]);
    harness.ready(3);
    harness.exit(2, 0);
    let notes = &harness.answers.last().unwrap().as_ref().unwrap().notes;
    assert_eq!(notes, &["`api`: the reload took the place of one that waited"]);
    assert_eq!((harness.answers.len(), harness.process(0).restarts), (4, 2));
}

#[test]
fn a_dry_run_reports_its_plan_and_does_nothing() {
    let mut harness = Harness::with(cluster(3));
    let rollout = Rollout { dry_run: true, ..Rollout::waves(1) };
    assert_eq!(harness.launch(newer(2), Launch::OrReload(rollout)), []);
    let planned = |step| Verdict::Planned { step };
    let replace = |wave| planned(Step::Replace { wave });
    assert_eq!(harness.verdicts(), [(0, replace(1)), (1, replace(2)), (2, planned(Step::Remove))]);
    assert_eq!(harness.answers.last().unwrap().as_ref().unwrap().notes, ["`api`: changes args, instances"]);
    assert!(harness.supervisor.apps().next().unwrap().spec.args.is_empty());
}

#[test]
fn excess_processes_are_not_reloaded_before_they_are_removed() {
    let mut harness = Harness::with(cluster(3));
    harness.launch(cluster(1), Launch::OrReload(Rollout::waves(2)));
    harness.ready(4);
    assert_eq!(harness.exit(1, 0), [drain(3), drain(2)]);
}

#[test]
fn a_memory_reload_that_failed_waits_before_it_tries_again() {
    let restart = RestartRule { max_memory: Some(100), ..cluster(1).restart };
    let mut harness = Harness::with(AppSpec { restart, ..cluster(1) });
    let sample = || Input::Sampled { run: Run(1), memory: 101 };
    assert_eq!(harness.input(sample()), [spawn(2, 0)]);
    harness.exit(2, 1);
    harness.pass(29_999);
    assert_eq!(harness.input(sample()), []);
    harness.pass(1);
    assert_eq!(harness.input(sample()), [spawn(3, 0)]);
    harness.exit(3, 1);
    harness.pass(30_000);
    assert_eq!(harness.input(sample()), [], "it doubles");
}

/// A cluster whose workers are unhealthy after one failure.
fn checked(instances: u32) -> AppSpec {
    let probe = Probe::Tcp { address: "127.0.0.1:1".to_owned() };
    AppSpec { health: Some(Health { retries: 1, ..Health::new(probe) }), ..cluster(instances) }
}

fn check(harness: &mut Harness, run: u64, fault: Option<&str>) -> Vec<Effect> {
    harness.input(Input::Checked { run: Run(run), fault: fault.map(|fault| Fault::Own(fault.to_owned())) })
}

#[test]
fn a_worker_with_a_health_check_is_ready_only_after_a_pass() {
    let mut harness = Harness::with(cluster(1));
    harness.launch(checked(1), Launch::OrReload(Rollout::waves(1)));
    assert_eq!(harness.ready(2), []);
    assert_eq!(check(&mut harness, 2, Some("status 500")), []);
    assert_eq!((check(&mut harness, 2, None), harness.rotation.contains(&Run(2))), (vec![drain(1)], true));
}

#[test]
fn an_unhealthy_canary_is_rolled_back_to_its_predecessor() {
    let mut harness = Harness::with(cluster(2));
    let watch = Canary { share: Share::Count(1), duration: Duration::from_secs(9) };
    harness.launch(checked(2), Launch::OrReload(Rollout { canary: Some(watch), ..Rollout::waves(1) }));
    check(&mut harness, 3, None);
    assert_eq!(check(&mut harness, 3, Some("status 500")), [drain(3)]);
    assert_eq!(harness.process(0).current_run(), Some(Run(1)));
    assert!(harness.supervisor.apps().next().unwrap().spec.health.is_none());
    let reason = "unhealthy while it was observed: status 500".to_owned();
    assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason, old_serves: true })]);
}

#[test]
fn an_unhealthy_worker_is_replaced_by_a_healthy_successor() {
    let mut harness = Harness::with(cluster(1));
    harness.launch(checked(1), Launch::OrReload(Rollout::waves(1)));
    check(&mut harness, 2, None);
    harness.exit(1, 0);
    assert_eq!(check(&mut harness, 2, Some("refused")), [spawn(3, 0)]);
    assert_eq!(check(&mut harness, 2, Some("refused")), [], "it is being replaced");
    assert_eq!(check(&mut harness, 3, None), [drain(2)]);
}

#[test]
fn on_fail_none_publishes_no_health_events() {
    let events = |on_fail| {
        let probe = Probe::Tcp { address: "127.0.0.1:1".to_owned() };
        let health = Health { retries: 1, on_fail, ..Health::new(probe) };
        let mut harness = Harness::with(fork(1));
        harness.launch(AppSpec { health: Some(health), ..fork(1) }, Launch::OrRestart);
        harness.exit(1, 0);
        check(&mut harness, 2, None);
        let counts = [Some("refused"), None].map(|fault| {
            let input = Input::Checked { run: Run(2), fault: fault.map(|fault| Fault::Own(fault.to_owned())) };
            harness.supervisor.handle(harness.now, input).len()
        });
        assert!(harness.process(0).health.fault().is_none());
        counts
    };
    assert_eq!(events(OnFail::Alert), [1, 1]);
    assert_eq!(events(OnFail::None), [0, 0]);
}

/// A fork with other arguments, which has nothing to prove readiness with.
fn newer_fork(instances: u32) -> AppSpec {
    AppSpec { args: vec!["--new".to_owned()], ..fork(instances) }
}

#[test]
fn a_process_without_a_readiness_proof_is_trusted_after_a_while() {
    let mut harness = Harness::with(fork(2));
    assert_eq!(harness.act(reload(), "api"), [terminate(1)], "the other is not touched meanwhile");
    assert_eq!(harness.exit(1, 0), [spawn(3, 0)]);
    harness.input(Input::Spawned { run: Run(3) });
    assert_eq!((harness.answers.len(), harness.pass(999)), (1, vec![]));
    assert_eq!(harness.pass(1), [terminate(2)]);
    harness.exit(2, 0);
    harness.input(Input::Spawned { run: Run(4) });
    assert_eq!(harness.verdicts(), [(0, Verdict::Done), (1, Verdict::Done)]);
    assert_eq!(harness.supervisor.judged_by_errors().count(), 0);
}

#[test]
fn a_release_that_exits_at_once_is_rolled_back() {
    let mut harness = Harness::with(fork(2));
    harness.launch(newer_fork(2), Launch::OrReload(Rollout::waves(2)));
    harness.exit(1, 0);
    harness.input(Input::Spawned { run: Run(3) });
    harness.exit(3, 7);
    harness.up();
    harness.exit(4, 0);
    harness.up();
    let reason = "exited with code 7; the previous release was started again".to_owned();
    assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason, old_serves: false })]);
    assert_eq!(harness.supervisor.apps().next().unwrap().spec.args, fork(2).args);
    assert_eq!(harness.process(1).current_run(), Some(Run(2)));
}

#[test]
fn a_job_that_completes_soon_has_not_failed() {
    let job = AppSpec { restart: RestartRule { autorestart: false, ..RestartRule::default() }, ..fork(1) };
    let mut harness = Harness::with(job);
    harness.act(reload(), "api");
    harness.exit(1, 0);
    harness.input(Input::Spawned { run: Run(2) });
    harness.exit(2, 0);
    harness.pass(1000);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
    harness.act(reload(), "api");
    harness.input(Input::Spawned { run: Run(3) });
    harness.exit(3, 4);
    let reason = "exited with code 4".to_owned();
    assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason, old_serves: false })]);
}

fn outcome_events(effects: Vec<Effect>) -> Vec<(u32, EventKind)> {
    let events = effects.into_iter().filter_map(|effect| {
        let Effect::Publish { process, kind } = effect else { return None };
        Some((process.0, kind))
    });
    events.filter(|(_, kind)| matches!(kind, EventKind::NotReplaced { .. } | EventKind::TakenBack)).collect()
}

#[test]
fn an_event_reports_why_a_release_does_not_serve() {
    let mut harness = Harness::with(cluster(3));
    let action = Action::Reload { changes: Changes::default(), rollout: Rollout::waves(2) };
    let ask = Request::Act { action, target: vec![Selector::All] };
    harness.supervisor.handle(harness.now, Input::Request { ticket: Ticket(9), ask });
    let crash = Input::Exited { run: Run(4), exit: Exit::Code(1), survivors: false };
    let reason = "exited with code 1 before it was ready".to_owned();
    let failed = EventKind::NotReplaced { reason, old_serves: true };
    assert_eq!(outcome_events(harness.supervisor.handle(harness.now, crash)), [(0, failed), (1, EventKind::TakenBack)]);
}

#[test]
fn the_stage_of_a_reload_can_be_queried() {
    let mut harness = Harness::with(cluster(3));
    let watch = Canary { share: Share::Count(1), duration: Duration::from_secs(30) };
    let rollout = Rollout { canary: Some(watch), ..Rollout::waves(1) };
    let far = |harness: &Harness| {
        [0, 1].map(|id| {
            harness.supervisor.under_way(harness.now, harness.process(id)).map(|work| (work.verb, work.stage))
        })
    };
    assert_eq!(far(&harness), [None, None]);
    harness.act(Action::Reload { changes: Changes::default(), rollout }, "api");
    let at = |stage| Some(("reload".to_owned(), stage));
    assert_eq!(far(&harness), [at(Stage::Now), at(Stage::Later)]);
    harness.ready(4);
    harness.pass(10_000);
    assert_eq!(far(&harness), [at(Stage::Watched { left_ms: Some(20_000) }), at(Stage::Later)]);
    harness.pass(20_000);
    harness.exit(1, 0);
    assert_eq!(far(&harness), [None, at(Stage::Now)]);
}
