//! What one process does, as short scenarios.

use std::time::Duration;

use super::{Goal, State};
use crate::protocol::{Action, Changes, EventKind, Exit, Run, Verdict};
use crate::spec::{Activation, AppSpec, Readiness, RestartRule};
use crate::supervisor::harness::{Harness, cluster, drain, fork, kill, reload, spawn, terminate};
use crate::supervisor::{AppId, Effect, Input, Proof, Request};

fn restart() -> Action {
    Action::Restart(Changes::default())
}

fn failed(reason: &str, old_serves: bool) -> Verdict {
    Verdict::Failed { reason: reason.to_owned(), old_serves }
}

#[test]
fn a_fork_is_ready_when_it_is_spawned_a_worker_when_it_listens() {
    let harness = Harness::with(fork(1));
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
    let mut harness = Harness::with(cluster(1));
    harness.exit(1, 1);
    harness.input(Input::Spawned { run: Run(2) });
    assert!(matches!(harness.process(0).state, State::Launching { .. }));
    harness.input(Input::Ready { run: Run(2), proof: Proof::Listening });
    assert!(matches!(harness.process(0).state, State::Online(_)));
}

#[test]
fn a_worker_that_never_listens_counts_as_ready_after_three_seconds() {
    let mut harness = Harness::with(cluster(1));
    harness.exit(1, 1);
    assert_eq!(harness.pass(2999), []);
    assert!(matches!(harness.process(0).state, State::Launching { .. }));
    harness.pass(1);
    assert!(matches!(harness.process(0).state, State::Online(serving) if !serving.proven));
}

#[test]
fn a_missing_ready_message_is_the_reason_of_a_wait_ready_failure() {
    let readiness = Readiness { wait_ready: true, listen_timeout: Some(Duration::from_secs(2)) };
    let mut harness = Harness::with(cluster(1));
    harness.act(Action::Delete, "all");
    harness.exit(1, 0);
    harness.launch(crate::spec::AppSpec { readiness, ..cluster(1) }, crate::protocol::Launch::New);
    harness.input(Input::Ready { run: Run(2), proof: Proof::Listening });
    harness.pass(2000);
    assert_eq!(harness.verdicts(), [(0, failed("not ready after 2 s", false))]);
    assert!(matches!(harness.process(0).state, State::Launching { ready_by: None, .. }), "it may still get ready");
    harness.ready(2);
    assert!(matches!(harness.process(0).state, State::Online(_)) && harness.process(0).reason.is_none());
}

#[test]
fn a_stop_sends_its_signal_then_sigkill_and_repeats_sigkill() {
    let mut harness = Harness::with(fork(1));
    assert_eq!(harness.act(Action::Stop, "api"), [terminate(1)]);
    assert_eq!(harness.pass(1599), []);
    assert_eq!(harness.pass(1), [kill(1)]);
    assert_eq!(harness.pass(1000), [kill(1)]);
    harness.exit(1, 0);
    assert_eq!((harness.process(0).goal, &harness.process(0).state), (Goal::Down, &State::Stopped));
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
}

#[test]
fn a_second_stop_ends_a_drain() {
    let mut harness = Harness::with(cluster(2));
    assert_eq!(harness.act(Action::Stop, "0"), [drain(1)]);
    assert_eq!(harness.act(Action::Stop, "0"), [terminate(1)]);
    assert_eq!(harness.act(Action::Stop, "0"), [], "the stop signal comes once");
}

#[test]
fn the_last_worker_is_stopped_without_a_drain() {
    let mut harness = Harness::with(cluster(2));
    assert_eq!(harness.act(Action::Stop, "all"), [terminate(1), terminate(2)]);
}

#[test]
fn a_drain_ends_with_the_last_request_or_its_timeout() {
    let mut harness = Harness::with(cluster(3));
    harness.act(Action::Stop, "0");
    harness.act(Action::Stop, "1");
    assert_eq!(harness.input(Input::Drained { run: Run(1) }), [terminate(1)]);
    assert_eq!(harness.pass(4999), [kill(1)]);
    assert_eq!(harness.pass(1), [kill(1), terminate(2)].split_at(1).1);
}

#[test]
fn a_restart_after_a_crash_waits_for_the_leftover_processes() {
    let mut harness = Harness::with(fork(1));
    assert_eq!(harness.abandon(1), [terminate(1)]);
    assert_eq!(harness.process(0).current_run(), None, "there is no main process to speak of");
    assert_eq!(harness.pass(1600), [kill(1)]);
    assert_eq!(harness.input(Input::TreeExited { run: Run(1) }), [spawn(2, 0)]);
}

#[test]
fn the_lifetime_of_a_crashed_run_excludes_its_leftovers() {
    let restart = RestartRule { max_restarts: 2, ..fork(1).restart };
    let mut harness = Harness::with(crate::spec::AppSpec { restart, ..fork(1) });
    for run in 1..=2 {
        harness.up();
        harness.pass(30);
        harness.abandon(run);
        harness.pass(400);
        harness.input(Input::TreeExited { run: Run(run) });
    }
    assert_eq!(harness.process(0).state, State::Errored);
    assert_eq!(harness.process(0).reason.as_deref(), Some("exited with code 1; given up after 2 unstable restarts"));
}

#[test]
fn a_restart_during_the_cleanup_starts_the_process_after_any_exit_code() {
    let restart_rule = RestartRule { autorestart: false, ..fork(1).restart };
    let mut harness = Harness::with(crate::spec::AppSpec { restart: restart_rule, ..fork(1) });
    harness.abandon(1);
    harness.act(restart(), "api");
    assert_eq!(harness.input(Input::TreeExited { run: Run(1) }), [spawn(2, 0)]);
}

#[test]
fn a_reload_starts_the_successor_before_it_stops_the_old_worker() {
    let mut harness = Harness::with(cluster(1));
    assert_eq!(harness.act(reload(), "api"), [spawn(2, 0)]);
    assert_eq!(harness.process(0).current_run(), Some(Run(1)), "the old one answers for it");
    assert_eq!(harness.ready(2), [drain(1)]);
    assert_eq!(harness.input(Input::Drained { run: Run(1) }), [terminate(1)]);
    assert_eq!(harness.answers.len(), 1, "the reload is over when the old one is gone");
    harness.exit(1, 0);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
}

#[test]
fn a_reload_whose_successor_crashes_keeps_the_old_worker_and_reports_why() {
    let mut harness = Harness::with(cluster(1));
    harness.act(reload(), "api");
    assert_eq!(harness.exit(2, 1), []);
    assert!(matches!(harness.process(0).state, State::Online(serving) if serving.run == Run(1)));
    assert_eq!(harness.verdicts(), [(0, failed("exited with code 1 before it was ready", true))]);
}

#[test]
fn a_reload_whose_successor_is_not_ready_in_time_keeps_the_old_worker() {
    let mut harness = Harness::with(cluster(1));
    harness.act(reload(), "api");
    assert_eq!(harness.pass(29_999), []);
    assert_eq!(harness.pass(1), [terminate(2)]);
    assert_eq!(harness.verdicts(), [(0, failed("not ready after 30 s", true))]);
    assert_eq!(harness.ready(2), [], "late readiness changes nothing");
    assert_eq!(harness.exit(2, 0), []);
    assert_eq!(harness.process(0).current_run(), Some(Run(1)));
}

#[test]
fn the_old_worker_may_die_while_its_successor_launches() {
    let mut harness = Harness::with(cluster(1));
    harness.act(reload(), "api");
    assert_eq!(harness.exit(1, 1), []);
    assert_eq!(harness.ready(2), []);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
}

#[test]
fn a_stop_during_a_reload_stops_both_workers() {
    let mut harness = Harness::with(cluster(1));
    harness.act(reload(), "api");
    let effects = harness.act(Action::Stop, "api");
    assert!(effects.contains(&terminate(1)) && effects.contains(&terminate(2)), "{effects:?}");
    assert_eq!(harness.verdicts(), [(0, Verdict::Superseded { by: "stop".to_owned() })]);
    harness.exit(2, 0);
    assert!(matches!(harness.process(0).state, State::Stopping(_)), "the old one lives");
    harness.exit(1, 0);
    assert_eq!(harness.process(0).state, State::Stopped);
}

#[test]
fn a_spawn_that_fails_after_the_stop_leaves_nothing_to_wait_for() {
    let mut harness = Harness::with(cluster(1));
    harness.exit(1, 1);
    harness.act(Action::Stop, "api");
    harness.input(Input::SpawnFailed { run: Run(2), error: "no memory".into(), permanent: false });
    assert_eq!(harness.process(0).state, State::Stopped);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
}

#[test]
fn a_spawn_failure_after_the_readiness_timeout_is_handled() {
    let mut harness = Harness::with(cluster(1));
    harness.exit(1, 1);
    harness.pass(3000);
    harness.input(Input::SpawnFailed { run: Run(2), error: "no such file".into(), permanent: true });
    assert_eq!(
        (&harness.process(0).state, harness.process(0).reason.as_deref()),
        (&State::Errored, Some("no such file"))
    );
}

/// Run 1 is replaced and drains, and its process has moved on to each of these states.
#[test]
fn a_stopping_run_gets_its_reports_whatever_state_its_process_is_in() {
    let rule = RestartRule { delay: Duration::from_secs(1), max_restarts: 1, ..cluster(1).restart };
    type Way = fn(&mut Harness);
    let ways: [(&str, Way); 3] = [
        ("waiting", |harness| drop((harness.pass(1500), harness.exit(2, 1)))),
        ("errored", |harness| drop(harness.exit(2, 1))),
        ("launching, old serves", |harness| {
            harness.pass(1500);
            harness.exit(2, 1);
            harness.pass(1000);
            harness.ready(3);
            harness.act(reload(), "api");
        }),
    ];
    for (name, way) in ways {
        let mut harness = Harness::with(crate::spec::AppSpec { restart: rule.clone(), ..cluster(1) });
        harness.act(reload(), "api");
        harness.ready(2);
        way(&mut harness);
        assert_eq!(harness.input(Input::Spawned { run: Run(1) }), [], "{name}");
        assert_eq!(harness.input(Input::Sampled { run: Run(1), memory: 1 << 40 }), [], "{name}");
        assert_eq!(harness.input(Input::Drained { run: Run(1) }), [terminate(1)], "{name}");
        let before = harness.process(0).state.clone();
        harness.input(Input::SpawnFailed { run: Run(1), error: "late".into(), permanent: true });
        assert_eq!(harness.process(0).state, before, "{name}");
        assert!(harness.process(0).retiring.is_empty(), "{name}");
    }
}

#[test]
fn signal_deaths_are_recorded_as_signals() {
    let mut harness = Harness::with(fork(1));
    harness.input(Input::Exited { run: Run(1), exit: Exit::Signal(9), survivors: false });
    assert_eq!(harness.process(0).last_exit, Some(Exit::Signal(9)));
    assert_eq!(harness.process(0).reason.as_deref(), Some("was killed by SIGKILL"));
}

/// An app that rests after a while without a connection, down to `least` processes.
fn on_demand(instances: u32, least: u32) -> AppSpec {
    let activation = Activation {
        listen: vec!["tcp://:3000".parse().unwrap()],
        idle_timeout: Some(Duration::from_secs(60)),
        min_instances: Some(least),
    };
    AppSpec { activation, ..cluster(instances) }
}

const UNNEEDED: Input = Input::Idle { app: AppId(0) };
const WANTED: Input = Input::Demand { app: AppId(0) };

#[test]
fn an_idle_app_wakes_one_by_one_and_no_restart_is_counted() {
    let mut harness = Harness::with(on_demand(2, 0));
    assert_eq!(harness.input(UNNEEDED), [drain(1), drain(2)]);
    harness.input(Input::Drained { run: Run(1) });
    assert_eq!(harness.exit(1, 0), []);
    assert_eq!(harness.process(0).state, State::Idle);
    // The second is still on its way out, and the first wakes.
    assert_eq!(harness.input(WANTED), [spawn(3, 0)]);
    // Then a successor is started beside the old run of the second process.
    assert_eq!(harness.input(WANTED), [spawn(4, 1)]);
    assert_eq!(harness.input(WANTED), [], "all are awake");
    harness.up();
    harness.exit(2, 0);
    for id in [0, 1] {
        let process = harness.process(id);
        assert!(matches!(process.state, State::Online(_)) && process.restarts == 0 && process.retiring.is_empty());
    }
}

#[test]
fn min_instances_workers_stay_awake() {
    let mut harness = Harness::with(on_demand(3, 1));
    assert_eq!(harness.input(UNNEEDED), [drain(2), drain(3)]);
    assert_eq!(harness.input(UNNEEDED), []);
    let mut all = Harness::with(cluster(2));
    assert_eq!((all.input(UNNEEDED), all.input(WANTED)), (vec![], vec![]), "it never rests");
}

#[test]
fn a_connection_starts_no_stopped_process_and_a_start_wakes_an_idle_one() {
    let mut harness = Harness::with(on_demand(1, 0));
    harness.input(UNNEEDED);
    harness.exit(1, 0);
    assert_eq!(harness.act(Action::Stop, "api"), []);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
    assert_eq!((harness.input(WANTED), &harness.process(0).state), (vec![], &State::Stopped));
    assert_eq!(harness.act(Action::Start(Changes::default()), "api"), [spawn(2, 0)]);
    harness.up();
    harness.input(UNNEEDED);
    assert_eq!(harness.act(Action::Stop, "api"), [terminate(2)]);
    assert_eq!(harness.input(WANTED), []);
    harness.exit(2, 0);
    assert_eq!(harness.process(0).state, State::Stopped);
}

#[test]
fn an_idle_process_stays_idle_through_a_reload_and_a_restore() {
    let mut harness = Harness::with(on_demand(1, 0));
    harness.input(UNNEEDED);
    harness.exit(1, 0);
    assert_eq!(harness.act(reload(), "api"), []);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done)]);
    let saved = harness.supervisor.snapshot();
    let mut next = Harness::with(AppSpec { name: "other".to_owned(), ..fork(1) });
    assert_eq!(next.ask(Request::Restore(saved)), []);
    assert_eq!(next.process(1).state, State::Idle);
    assert_eq!(next.input(Input::Demand { app: AppId(1) }), [spawn(2, 1)]);
}

#[test]
fn a_run_that_misses_its_watchdog_is_restarted() {
    let spec = AppSpec { watchdog: Some(Duration::from_secs(30)), ..fork(1) };
    let mut harness = Harness::with(spec);
    harness.pass(29_000);
    harness.input(Input::WatchdogPing { run: Run(1) });
    assert_eq!(harness.pass(29_999), []);
    assert_eq!(harness.pass(1), [terminate(1)]);
    assert_eq!(harness.pass(1600), [kill(1)]);
    assert_eq!(harness.input(Input::Exited { run: Run(1), exit: Exit::Signal(9), survivors: false }), [spawn(2, 0)]);
    let process = harness.process(0);
    assert_eq!(process.reason.as_deref(), Some("it hung: no WATCHDOG=1 within 30 s"));
    assert_eq!((process.restarts, process.last_exit), (1, Some(Exit::Signal(9))));
    assert_eq!(
        harness.input(Input::WatchdogTrigger { run: Run(1) }),
        [],
        "a report about a run that is gone is ignored"
    );
}

#[test]
fn a_program_that_hangs_repeatedly_is_given_up_with_any_exit_code() {
    let restart = RestartRule { max_restarts: 2, stop_exit_codes: vec![0], ..RestartRule::default() };
    let mut harness = Harness::with(AppSpec { restart, ..fork(1) });
    harness.input(Input::WatchdogTrigger { run: Run(1) });
    assert_eq!(harness.exit(1, 0), [spawn(2, 0)]);
    harness.input(Input::Spawned { run: Run(2) });
    harness.input(Input::WatchdogTrigger { run: Run(2) });
    harness.exit(2, 0);
    assert_eq!(harness.process(0).state, State::Errored);
    assert_eq!(
        harness.process(0).reason.as_deref(),
        Some("it reported that it hung; given up after 2 unstable restarts")
    );
}

#[test]
fn a_notify_socket_message_counts_as_the_ready_message() {
    let readiness = Readiness { wait_ready: true, listen_timeout: None };
    let mut harness = Harness::with(AppSpec { readiness, ..cluster(1) });
    harness.exit(1, 1);
    harness.input(Input::Ready { run: Run(2), proof: Proof::Listening });
    assert!(matches!(harness.process(0).state, State::Launching { .. }));
    harness.input(Input::Ready { run: Run(2), proof: Proof::Notified });
    assert!(matches!(harness.process(0).state, State::Online(serving) if serving.proven));
}

/// What a list of effects opens and closes, in order, with the events beside it.
fn listeners(effects: &[Effect]) -> Vec<String> {
    let name = |effect: &Effect| match effect {
        Effect::CloseListeners { app } => Some(format!("close {}", app.0)),
        Effect::WatchForDemand { app } => Some(format!("watch {}", app.0)),
        Effect::Serve { run } => Some(format!("serve {}", run.0)),
        Effect::Admit { run } => Some(format!("admit {}", run.0)),
        Effect::UpdatePidFile { process } => Some(format!("pid file {}", process.0)),
        Effect::Publish { kind: EventKind::Online, .. } => Some("online".to_owned()),
        Effect::Publish { kind: EventKind::Idle, .. } => Some("idle".to_owned()),
        Effect::Publish { kind: EventKind::Stopped, .. } => Some("stopped".to_owned()),
        Effect::Publish { .. }
        | Effect::Spawn { .. }
        | Effect::Eject { .. }
        | Effect::Drain { .. }
        | Effect::Terminate { .. }
        | Effect::Kill { .. }
        | Effect::Signal { .. }
        | Effect::ProcessRemoved { .. }
        | Effect::AppRemoved { .. }
        | Effect::Settle { .. } => None,
    };
    effects.iter().filter_map(name).collect()
}

#[test]
fn the_listeners_of_an_app_close_with_its_last_process_and_not_in_a_restart() {
    let mut harness = Harness::with(fork(2));
    let exit = |run| Input::Exited { run: Run(run), exit: Exit::Code(0), survivors: false };
    harness.act(Action::Stop, "0");
    assert_eq!(listeners(&harness.supervisor.handle(harness.now, exit(1))), ["stopped"], "the other process is wanted");
    harness.act(restart(), "1");
    assert_eq!(listeners(&harness.supervisor.handle(harness.now, exit(2))), [""; 0]);
    harness.act(Action::Stop, "1");
    assert_eq!(listeners(&harness.supervisor.handle(harness.now, exit(3))), ["close 0", "stopped"]);
    assert_eq!(harness.supervisor.unfinished(harness.now), [Effect::CloseListeners { app: AppId(0) }]);
}

#[test]
fn an_idle_app_is_watched_for_demand_and_a_ready_run_serves() {
    let mut harness = Harness::with(on_demand(1, 0));
    harness.input(UNNEEDED);
    let exit = Input::Exited { run: Run(1), exit: Exit::Code(0), survivors: false };
    assert_eq!(listeners(&harness.supervisor.handle(harness.now, exit)), ["watch 0", "idle"]);
    assert_eq!(harness.supervisor.unfinished(harness.now), [Effect::WatchForDemand { app: AppId(0) }]);
    harness.input(WANTED);
    let ready = Input::Ready { run: Run(2), proof: Proof::Message };
    let effects = harness.supervisor.handle(harness.now, ready);
    assert_eq!(listeners(&effects), ["pid file 0", "serve 2", "online", "admit 2"]);
}
