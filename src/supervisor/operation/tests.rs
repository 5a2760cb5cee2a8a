//! Verbs on whole apps, as short scenarios.

use std::time::Duration;

use crate::protocol::{Action, Changes, Launch, Refusal, Rollout, Run, Scale, Verdict};
use crate::spec::{AppSpec, RestartRule};
use crate::supervisor::harness::{Harness, cluster, drain, fork, kill, reload, spawn, terminate};
use crate::supervisor::{Goal, Input, Process, ProcessId, Request, State};

fn start() -> Action {
    Action::Start(Changes::default())
}

fn ids(harness: &Harness) -> Vec<u32> {
    harness.supervisor.processes().map(|process| process.id.0).collect()
}

#[test]
fn scale_down_removes_the_newest_first_and_drains_them() {
    let mut harness = Harness::with(cluster(4));
    assert_eq!(harness.act(Action::Scale(Scale::To(2)), "api"), [drain(4), drain(3)]);
    harness.input(Input::Drained { run: Run(4) });
    harness.input(Input::Drained { run: Run(3) });
    harness.exit(3, 0);
    harness.exit(4, 0);
    assert_eq!(ids(&harness), [0, 1]);
    assert_eq!(harness.verdicts(), [(2, Verdict::Done), (3, Verdict::Done)]);
}

#[test]
fn scale_up_fills_the_free_instance_numbers() {
    let mut harness = Harness::with(fork(3));
    harness.act(Action::Delete, "1");
    harness.exit(2, 0);
    assert_eq!(harness.act(Action::Scale(Scale::Up(2)), "api"), [spawn(4, 3), spawn(5, 4)]);
    let instances: Vec<u32> = harness.supervisor.processes().map(|process| process.instance).collect();
    assert_eq!(instances, [0, 2, 1, 3]);
}

#[test]
fn an_impossible_count_is_refused() {
    let mut harness = Harness::with(fork(2));
    let nothing = Refusal::NothingToDo { name: "api".into(), instances: 2 };
    for scale in [Scale::To(2), Scale::Up(0), Scale::Down(0)] {
        harness.act(Action::Scale(scale), "api");
        assert_eq!(harness.answers.pop(), Some(Err(nothing.clone())), "{scale:?}");
    }
    for scale in [Scale::To(0), Scale::Down(2), Scale::Down(7)] {
        harness.act(Action::Scale(scale), "api");
        assert!(matches!(harness.answers.pop(), Some(Err(Refusal::BadCount { .. }))), "{scale:?}");
    }
    harness.launch(AppSpec { name: "many".to_owned(), ..fork(u32::MAX) }, Launch::New);
    assert!(matches!(harness.answers.pop(), Some(Err(Refusal::BadCount { .. }))), "a client may ask for anything");
    assert_eq!(ids(&harness), [0, 1]);
}

#[test]
fn a_start_queues_behind_the_stop_that_runs() {
    let mut harness = Harness::with(fork(1));
    harness.act(Action::Stop, "api");
    assert_eq!(harness.act(start(), "api"), []);
    assert_eq!(harness.exit(1, 0), [spawn(2, 0)]);
    harness.input(Input::Spawned { run: Run(2) });
    assert_eq!(harness.answers.len(), 3);
    assert_eq!((harness.process(0).goal, harness.process(0).restarts), (Goal::Up, 0), "a start is no restart");
}

#[test]
fn a_launch_queues_behind_the_delete_that_runs() {
    let mut harness = Harness::with(fork(1));
    harness.act(Action::Delete, "api");
    assert_eq!(harness.launch(fork(2), Launch::New), []);
    assert_eq!(harness.exit(1, 0).len(), 2);
    harness.up();
    assert_eq!(ids(&harness).len(), 2);
    assert!(harness.answers.iter().all(Result::is_ok));
}

#[test]
fn a_running_app_is_not_launched_twice() {
    let mut harness = Harness::with(fork(1));
    harness.launch(fork(1), Launch::New);
    assert_eq!(harness.answers.pop(), Some(Err(Refusal::AlreadyRunning { name: "api".into(), id: 0 })));
}

#[test]
fn a_stop_overtakes_waiting_operations() {
    let mut harness = Harness::with(cluster(2));
    harness.act(reload(), "api");
    harness.act(Action::Scale(Scale::To(4)), "api");
    harness.act(Action::Stop, "api");
    let by = || Verdict::Superseded { by: "stop".to_owned() };
    assert_eq!(harness.verdicts(), [(0, by()), (1, by())], "the scale says so too");
    for run in [1, 2, 3] {
        harness.exit(run, 0);
    }
    assert!(harness.supervisor.processes().all(|process| process.state == State::Stopped));
    assert_eq!((ids(&harness).len(), harness.answers.len()), (2, 4));
}

#[test]
fn a_reload_replaces_one_by_one_and_stops_at_the_first_failure() {
    let mut harness = Harness::with(cluster(3));
    assert_eq!(harness.act(reload(), "api"), [spawn(4, 0)]);
    harness.ready(4);
    assert_eq!(harness.input(Input::Drained { run: Run(1) }), [terminate(1)]);
    assert_eq!(harness.exit(1, 0), [spawn(5, 1)]);
    assert_eq!(harness.exit(5, 3), []);
    let report = harness.answers.last().unwrap().as_ref().unwrap();
    assert_eq!(report.notes, ["the reload stopped there: 1 other process was not touched"]);
    assert_eq!(report.lines.len(), 2);
    assert!(harness.supervisor.processes().all(Process::serves));
}

#[test]
fn a_failed_reload_brings_the_old_spec_back() {
    let mut harness = Harness::with(cluster(1));
    let fresh = AppSpec { args: vec!["--broken".to_owned()], ..cluster(1) };
    harness.launch(fresh, Launch::OrReload(Rollout::waves(1)));
    let args = |harness: &Harness| harness.supervisor.apps().next().unwrap().spec.args.clone();
    assert_eq!(args(&harness), ["--broken"]);
    harness.exit(2, 1);
    assert!(args(&harness).is_empty());
}

#[test]
fn a_reload_that_makes_a_cluster_of_a_fork_restarts_it() {
    let mut harness = Harness::with(fork(1));
    assert_eq!(harness.launch(cluster(1), Launch::OrReload(Rollout::waves(1))), [drain(1)]);
    assert_eq!(harness.input(Input::Drained { run: Run(1) }), [terminate(1)]);
    assert_eq!(harness.exit(1, 0), [spawn(2, 0)]);
}

#[test]
fn the_last_requested_count_holds_while_scales_wait() {
    let mut harness = Harness::with(fork(1));
    harness.act(Action::Restart(Changes::default()), "api");
    harness.act(Action::Scale(Scale::To(3)), "api");
    harness.launch(fork(1), Launch::OrRestart);
    for run in 1..10 {
        harness.exit(run, 0);
        harness.up();
    }
    assert_eq!(ids(&harness), [0]);
}

#[test]
fn a_worker_over_its_memory_limit_is_reloaded_once() {
    let restart = RestartRule { max_memory: Some(100), ..cluster(1).restart };
    let mut harness = Harness::with(AppSpec { restart, ..cluster(1) });
    let sample = |memory| Input::Sampled { run: Run(1), memory };
    assert_eq!(harness.input(sample(100)), []);
    assert_eq!(harness.input(sample(101)), [spawn(2, 0)]);
    assert_eq!(harness.input(sample(101)), [], "it is being replaced already");
}

#[test]
fn a_worker_that_waits_for_its_reload_is_not_reloaded_for_its_memory_too() {
    let restart = RestartRule { max_memory: Some(100), ..cluster(2).restart };
    let mut harness = Harness::with(AppSpec { restart, ..cluster(2) });
    harness.act(reload(), "api");
    assert_eq!(harness.input(Input::Sampled { run: Run(2), memory: 101 }), []);
    harness.ready(3);
    assert_eq!(harness.exit(1, 0), [spawn(4, 1)]);
    harness.ready(4);
    assert_eq!(harness.exit(2, 0), [], "it is over with that");
}

#[test]
fn one_tick_handles_everything_due_and_its_consequences() {
    let rule = RestartRule { delay: Duration::from_secs(3), ..cluster(2).restart };
    let mut harness = Harness::with(AppSpec { restart: rule, ..cluster(2) });
    harness.pass(2000);
    harness.exit(2, 1);
    harness.act(Action::Restart(Changes::default()), "0");
    harness.exit(1, 0);
    harness.act(Action::Scale(Scale::To(1)), "api");
    harness.pass(3000);
    assert_eq!(ids(&harness), [0], "the process that waited was removed in the tick that was its own");
}

#[test]
fn a_shutdown_stops_all_apps_at_once_and_refuses_later_requests() {
    let mut harness = Harness::with(fork(2));
    assert_eq!(harness.ask(Request::ShutDown), [terminate(1), terminate(2)]);
    harness.act(start(), "api");
    assert_eq!(harness.answers.pop(), Some(Err(Refusal::ShuttingDown)));
    assert_eq!(harness.pass(1600), [kill(1), kill(2)]);
    harness.exit(1, 0);
    harness.exit(2, 0);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done), (1, Verdict::Done)]);
}

#[test]
fn a_shutdown_waits_for_processes_being_deleted() {
    let mut harness = Harness::with(fork(2));
    harness.act(Action::Delete, "1");
    assert_eq!(harness.ask(Request::ShutDown), [terminate(1)]);
    harness.exit(1, 0);
    assert_eq!(harness.answers.len(), 1, "only the launch was answered");
    assert_eq!(harness.pass(1600), [kill(2)]);
    harness.exit(2, 0);
    assert_eq!(harness.verdicts(), [(0, Verdict::Done), (1, Verdict::Done)]);
}

#[test]
fn a_stop_fails_when_sigkill_does_not_end_the_process() {
    let mut harness = Harness::with(fork(2));
    harness.act(Action::Delete, "0");
    assert_eq!(harness.pass(1600), [kill(1)]);
    for _ in 0..9 {
        assert_eq!(harness.pass(1000), [kill(1)]);
        assert_eq!(harness.answers.len(), 1, "only the launch was answered");
    }
    harness.pass(1000);
    assert!(matches!(&harness.verdicts()[..], [(0, Verdict::Failed { reason, .. })] if reason.contains("SIGKILL")));
    assert_eq!(harness.pass(1000), [kill(1)], "it is tried on");
    harness.exit(1, 0);
    assert!(harness.supervisor.process(ProcessId(0)).is_none(), "when it ends it is forgotten, as was asked");
    harness.ask(Request::ShutDown);
    (0..12).for_each(|_| drop(harness.pass(1600)));
    assert!(matches!(&harness.verdicts()[..], [(1, Verdict::Failed { .. })]), "a shutdown waits no longer, either");
}

#[test]
fn saved_processes_are_restored_with_their_numbers() {
    let mut harness = Harness::with(fork(3));
    harness.act(Action::Delete, "0");
    harness.exit(1, 0);
    harness.act(Action::Stop, "2");
    harness.exit(3, 0);
    let saved = harness.supervisor.snapshot();
    let mut later = Harness::with(AppSpec { name: "other".into(), ..fork(1) });
    assert_eq!(later.ask(Request::Restore(saved.clone())), [spawn(2, 1)]);
    let back = later.supervisor.process(ProcessId(2)).expect("its id was free");
    assert_eq!((back.instance, back.goal), (2, Goal::Down));
    later.ask(Request::Restore(saved));
    assert_eq!(later.answers.last().unwrap().as_ref().unwrap().notes, ["`api` is here already and was left as it is"]);
}

#[test]
fn a_signal_to_a_process_without_a_run_fails() {
    let mut harness = Harness::with(fork(1));
    assert_eq!(harness.act(Action::Signal(12), "0").len(), 1);
    harness.abandon(1);
    assert_eq!(harness.act(Action::Signal(12), "0"), []);
    assert!(matches!(harness.verdicts()[..], [(0, Verdict::Failed { .. })]));
}
