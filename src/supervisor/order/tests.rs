//! Start, stop and reload of apps that depend on each other, as short scenarios.

mod skipped;

use std::time::Duration;

use crate::protocol::{Action, Changes, EventKind, Exit, Launch, Refusal, Run, Verdict};
use crate::spec::dependency::{Condition, parse};
use crate::spec::health::{Health, Probe};
use crate::spec::{AppSpec, Dependencies, Readiness, RestartRule};
use crate::supervisor::harness::{Harness, fork, reload, spawn, terminate};
use crate::supervisor::{Effect, Fault, Goal, Input, Process, ProcessId, Request, Snapshot, State, Supervisor, Ticket};

/// An app that says when it is ready, and needs these.
fn app(name: &str, needs: &[&str]) -> AppSpec {
    let depends_on: Dependencies = needs.iter().map(|word| parse(word).expect("a dependency")).collect();
    let readiness = Readiness { wait_ready: true, listen_timeout: Some(Duration::from_secs(60)) };
    AppSpec { name: name.to_owned(), depends_on, readiness, ..fork(1) }
}

/// A job that is done once.
fn job(name: &str) -> AppSpec {
    let restart = RestartRule { autorestart: false, ..RestartRule::default() };
    AppSpec { restart, readiness: Readiness::default(), ..app(name, &[]) }
}

fn healthy(spec: AppSpec) -> AppSpec {
    AppSpec { health: Some(Health::new(Probe::Tcp { address: "x:1".to_owned() })), ..spec }
}

fn launch(apps: Vec<AppSpec>) -> Request {
    Request::Launch { apps, how: Launch::New }
}

/// A stage with these apps, of which nothing is ready yet.
fn stage(apps: Vec<AppSpec>) -> (Harness, Vec<Effect>) {
    let mut harness = Harness::with(AppSpec { name: "other".to_owned(), ..fork(1) });
    let effects = harness.ask(launch(apps));
    (harness, effects)
}

/// A `db` (process 1, run 2) and an `api` (process 2, run 3) that needs it, both ready.
fn pair() -> Harness {
    let (mut harness, _) = stage(vec![app("db", &[]), app("api", &["db"])]);
    harness.ready(2);
    harness.ready(3);
    harness
}

fn start() -> Action {
    Action::Start(Changes::default())
}

fn restart() -> Action {
    Action::Restart(Changes::default())
}

fn notes(harness: &Harness) -> Vec<String> {
    harness.answers.last().expect("an answer").as_ref().expect("no refusal").notes.clone()
}

fn refusal(harness: &Harness) -> String {
    match harness.answers.last() {
        Some(Err(Refusal::BadSetting { key, why })) if key == "depends_on" => why.clone(),
        other => panic!("{other:?}"),
    }
}

/// Why the process could not be had, from the last answer.
fn failure(harness: &Harness, id: u32) -> String {
    let verdicts = harness.verdicts();
    match verdicts.iter().find(|(other, _)| *other == id) {
        Some((_, Verdict::Failed { reason, .. } | Verdict::NotBegun { reason, .. })) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn waits_for(harness: &Harness, id: u32) -> Option<String> {
    harness.supervisor.waits_for(harness.process(id))
}

#[test]
fn apps_start_after_their_dependencies_in_any_order_of_the_file() {
    let (mut harness, effects) = stage(vec![app("web", &["api"]), app("api", &["db"]), app("db", &[])]);
    assert_eq!(effects, [spawn(2, 3)]);
    assert_eq!(waits_for(&harness, 2).as_deref(), Some("waits for `db` to be ready"));
    assert_eq!(harness.process(2).goal, Goal::Down);
    assert!(harness.supervisor.shall_run(harness.process(2)), "it comes back after a reboot, too");
    assert_eq!(harness.ready(2), [spawn(3, 2)]);
    assert_eq!(waits_for(&harness, 2), None);
    assert_eq!(harness.ready(3), [spawn(4, 1)]);
    assert_eq!(harness.answers.len(), 1, "only that of the first app");
    harness.ready(4);
    let done = |id| (id, Verdict::Done);
    assert_eq!(harness.verdicts(), [done(3), done(2), done(1)]);
}

#[test]
fn a_restart_after_a_crash_does_not_wait_for_dependencies() {
    let mut harness = pair();
    assert_eq!(harness.exit(3, 1), [spawn(4, 2)], "a crash");
    harness.act(Action::Stop, "db");
    harness.exit(2, 0);
    assert_eq!(harness.exit(4, 1), [spawn(5, 2)], "a crash, and its database is down");
}

#[test]
fn the_condition_started_is_met_before_ready() {
    let (harness, effects) = stage(vec![app("db", &[]), app("api", &["db:started"])]);
    assert_eq!(effects, [spawn(2, 1), spawn(3, 2)]);
    assert_eq!(harness.answers.len(), 1);
}

#[test]
fn the_condition_healthy_is_met_by_a_passed_check() {
    let db = healthy(AppSpec { readiness: Readiness::default(), ..app("db", &[]) });
    let (mut harness, effects) = stage(vec![app("api", &["db:healthy"]), db]);
    assert_eq!(effects, [spawn(2, 2)]);
    assert_eq!(harness.input(Input::Spawned { run: Run(2) }), []);
    assert_eq!(harness.input(Input::Checked { run: Run(2), fault: Some(Fault::Own("refused".into())) }), []);
    assert_eq!(harness.input(Input::Checked { run: Run(2), fault: None }), [spawn(3, 1)]);
    harness.ready(3);
    for _ in 0..9 {
        harness.input(Input::Checked { run: Run(2), fault: Some(Fault::Own("refused".into())) });
    }
    // Unhealthy, it is replaced; until then every request is told so.
    harness.act(restart(), "api");
    assert_eq!(waits_for(&harness, 1).as_deref(), Some("waits for `db` to be healthy"));
}

#[test]
fn an_app_waits_for_its_job_which_runs_once() {
    let (mut harness, effects) = stage(vec![app("api", &["migrate:completed", "db"]), app("db", &[]), job("migrate")]);
    assert_eq!(effects, [spawn(2, 2), spawn(3, 3)]);
    harness.input(Input::Spawned { run: Run(3) });
    assert_eq!(harness.ready(2), []);
    assert_eq!(waits_for(&harness, 1).as_deref(), Some("waits for `migrate` to complete"));
    assert_eq!(harness.exit(3, 0), [spawn(4, 1)]);
    assert!(harness.process(3).is_completed() && harness.process(3).goal == Goal::Down);
    harness.ready(4);
    harness.act(restart(), "api");
    assert_eq!(harness.exit(4, 0), [spawn(5, 1)], "no second migration");
    harness.ready(5);
    assert_eq!(notes(&harness), [""; 0]);
    assert_eq!(harness.act(start(), "migrate"), [spawn(6, 3)], "unless somebody asks");
    assert!(!harness.process(3).is_completed());
    harness.input(Input::Spawned { run: Run(6) });
    harness.act(Action::Stop, "migrate");
    harness.exit(6, 0);
    assert!(!harness.process(3).is_completed(), "it was stopped");
}

#[test]
fn a_failed_job_fails_the_apps_that_wait_for_it() {
    let (mut harness, _) = stage(vec![app("api", &["migrate:completed"]), job("migrate")]);
    harness.input(Input::Spawned { run: Run(2) });
    assert_eq!(harness.exit(2, 3), []);
    assert_eq!(failure(&harness, 1), "`migrate`, on which it depends, exited with code 3");
    assert_eq!(failure(&harness, 2), "exited with code 3", "that it was started is not all there is to tell");
    assert_eq!(harness.process(1).state, State::Errored);
    assert!(harness.supervisor.shall_run(harness.process(1)), "the next boot may find it mended");
    let again = harness.act(start(), "api");
    assert_eq!(again, [spawn(3, 2)], "what is down is started as well");
    harness.input(Input::Spawned { run: Run(3) });
    assert_eq!(harness.exit(3, 0), [spawn(4, 1)]);
    harness.ready(4);
    assert_eq!(notes(&harness), ["`migrate` was started as well: `api` depends on it"]);
}

#[test]
fn a_dependency_with_a_problem_is_waited_for_and_the_client_is_answered() {
    let delayed = RestartRule { delay: Duration::from_secs(5), ..RestartRule::default() };
    let db = AppSpec { restart: delayed, ..app("db", &[]) };
    let (mut harness, _) = stage(vec![db, app("api", &["db"]), app("web", &["api"])]);
    harness.exit(2, 1);
    let why = "`db`, on which it depends, has not come up: exited with code 1; the start waits for it";
    assert_eq!((failure(&harness, 2), failure(&harness, 3)), (why.to_owned(), why.to_owned()));
    assert_eq!(harness.pass(5000), [spawn(3, 1)]);
    assert_eq!(harness.ready(3), [spawn(4, 2)], "it comes, and they follow");
    assert_eq!(harness.ready(4), [spawn(5, 3)]);
}

#[test]
fn an_errored_dependency_ends_the_waiting_start() {
    let once = RestartRule { max_restarts: 1, ..RestartRule::default() };
    let db = AppSpec { restart: once, ..app("db", &[]) };
    let (mut harness, _) = stage(vec![db, app("api", &["db"]), app("web", &["api"])]);
    harness.exit(2, 1);
    let given_up = "exited with code 1; given up after 1 unstable restarts";
    assert_eq!(failure(&harness, 2), format!("`db`, on which it depends, is errored: {given_up}"));
    assert!(
        failure(&harness, 3).starts_with("`api`, on which it depends, is errored: `db`"),
        "{}",
        failure(&harness, 3)
    );
    assert!(harness.supervisor.apps().all(|app| app.operations.is_empty()));
}

#[test]
fn a_dependency_stopped_meanwhile_ends_the_waiting_start() {
    let (mut harness, _) = stage(vec![app("db", &[]), app("api", &["db"])]);
    harness.act(Action::Stop, "db");
    assert_eq!(failure(&harness, 2), "`db`, on which it depends, is being stopped");
    harness.exit(2, 0);
    assert_eq!(harness.act(start(), "api"), [spawn(3, 1)], "asked for again, both come");
}

#[test]
fn all_apps_are_stopped_in_reverse_order() {
    let mut harness = pair();
    assert_eq!(harness.act(Action::Stop, "all"), [terminate(1), terminate(3)]);
    assert_eq!(harness.process(1).goal, Goal::Up, "it serves until its clients have gone");
    assert!(!harness.supervisor.shall_run(harness.process(1)), "and does not come back after a reboot");
    assert_eq!(harness.exit(1, 0), []);
    assert_eq!(harness.exit(3, 0), [terminate(2)]);
    harness.exit(2, 0);
    assert_eq!(harness.verdicts().len(), 3);
}

#[test]
fn an_app_that_hangs_delays_other_stops_by_its_kill_timeout_at_most() {
    let mut harness = pair();
    harness.act(Action::Delete, "all");
    harness.exit(1, 0);
    harness.pass(1600);
    assert_eq!(harness.exit(3, 0), [terminate(2)]);
    harness.exit(2, 0);
    assert_eq!(harness.supervisor.processes().count(), 0);
}

#[test]
fn no_process_starts_while_a_stop_waits() {
    let (mut harness, _) = stage(vec![app("db", &[]), app("api", &["db:started"])]);
    harness.ready(3);
    assert_eq!(harness.act(Action::Stop, "all"), [terminate(1), terminate(3), terminate(2)], "the database was not up");
    let mut harness = pair();
    harness.act(restart(), "db");
    assert_eq!(harness.act(Action::Stop, "all"), [terminate(1), terminate(3)]);
    assert_eq!(harness.exit(2, 0), [], "stop beats the restart in flight");
    let mut harness = pair();
    harness.act(Action::Stop, "all");
    assert_eq!(harness.exit(2, 1), [spawn(4, 1)], "those that finish may need it: it crashed");
    assert_eq!(harness.exit(3, 0), [terminate(4)]);
}

#[test]
fn the_answer_to_a_stop_names_the_dependents_that_run_on() {
    let mut harness = pair();
    assert_eq!(harness.act(Action::Stop, "db"), [terminate(2)]);
    harness.exit(2, 0);
    assert_eq!(notes(&harness), ["`api` depends on `db` and runs on"]);
    harness.act(Action::Delete, "db");
    assert_eq!(notes(&harness), ["`api` depends on `db` and cannot be started without it"]);
    assert_eq!(harness.act(restart(), "api"), []);
    assert_eq!(failure(&harness, 2), "`db`, on which it depends, is not known");
    assert!(matches!(harness.process(2).state, State::Online(_)), "it runs on as it was");
}

#[test]
fn all_apps_are_restarted_and_reloaded_in_order() {
    for action in [restart(), reload()] {
        let mut harness = pair();
        assert_eq!(harness.act(action, "all"), [terminate(1), terminate(2)]);
        assert!(waits_for(&harness, 2).is_some());
        harness.exit(1, 0);
        harness.exit(2, 0);
        harness.input(Input::Spawned { run: Run(4) });
        assert_eq!(harness.ready(5), [terminate(3)]);
        harness.exit(3, 0);
        harness.ready(6);
        assert!(harness.verdicts().iter().all(|(_, verdict)| *verdict == Verdict::Done), "{:?}", harness.verdicts());
    }
}

#[test]
fn a_later_request_waits_for_an_earlier_one_and_not_the_reverse() {
    let mut harness = pair();
    harness.act(restart(), "db");
    assert_eq!(harness.act(restart(), "api"), []);
    assert_eq!(waits_for(&harness, 2).as_deref(), Some("waits for `db` to be ready"));
    let mut harness = pair();
    assert_eq!(harness.act(restart(), "api"), [terminate(3)]);
    assert_eq!(harness.act(restart(), "db"), [terminate(2)]);
    assert_eq!(harness.exit(3, 0), [spawn(4, 2)]);
}

#[test]
fn a_scale_up_waits_and_a_scale_down_does_not() {
    use crate::protocol::Scale;
    let mut harness = pair();
    harness.act(restart(), "db");
    assert_eq!(harness.act(Action::Scale(Scale::Up(1)), "api"), []);
    harness.exit(2, 0);
    assert_eq!(harness.ready(4), [spawn(5, 3)]);
    harness.ready(5);
    harness.act(Action::Stop, "db");
    harness.exit(4, 0);
    assert_eq!(harness.act(Action::Scale(Scale::Down(1)), "api"), [terminate(5)]);
}

#[test]
fn a_circle_is_refused_before_anything_changes() {
    let mut harness = pair();
    harness.launch(app("db", &["api"]), Launch::OrRestart);
    assert_eq!(refusal(&harness), "the apps depend on each other in a circle: db → api → db; remove one of these");
    let changes = Changes { settings: vec![("depends_on".to_owned(), "api".into())], base_env: None };
    harness.act(Action::Restart(changes), "db");
    assert!(refusal(&harness).contains("db → api → db"));
    let three = vec![app("a", &["b"]), app("b", &["c"]), app("c", &["a", "db"])];
    assert_eq!(harness.ask(launch(three)), []);
    assert!(refusal(&harness).contains("a → b → c → a"));
    assert_eq!(harness.supervisor.apps().count(), 3, "nothing was added");
    assert!(harness.supervisor.apps().all(|app| app.operations.is_empty()));
    // Turned round in one go it is no circle.
    harness.ask(Request::Launch { apps: vec![app("db", &["api"]), app("api", &[])], how: Launch::OrRestart });
    harness.exit(3, 0);
    assert_eq!(harness.ready(4), [terminate(2)]);
}

#[test]
fn an_impossible_dependency_is_refused() {
    let mut harness = pair();
    harness.launch(app("web", &["dv"]), Launch::New);
    let why = "`web` depends on `dv`, which is not known: start both from one config file, or `dv` first";
    assert!(refusal(&harness).starts_with(why), "{}", refusal(&harness));
    harness.launch(AppSpec { namespace: "shop".to_owned(), ..app("web", &["db"]) }, Launch::New);
    assert!(refusal(&harness).contains("in the namespace `shop` (there is one in `default`)"), "{}", refusal(&harness));
    harness.launch(app("web", &["db:healthy"]), Launch::New);
    assert!(refusal(&harness).contains("`db` has no `health` check: add one"), "{}", refusal(&harness));
    harness.launch(app("web", &["db:completed"]), Launch::New);
    assert!(refusal(&harness).contains("set its `autorestart` to false"), "{}", refusal(&harness));
    harness.ask(launch(vec![app("web", &["job:completed"]), job("job")]));
    harness.launch(app("job", &[]), Launch::OrRestart);
    assert!(refusal(&harness).contains("`web` waits for `job` to complete"), "{}", refusal(&harness));
}

#[test]
fn a_restore_starts_all_apps_in_order() {
    let mut harness = pair();
    harness.ask(launch(vec![app("web", &["api", "job:completed"]), job("job")]));
    harness.input(Input::Spawned { run: Run(4) });
    harness.exit(4, 0);
    harness.ready(5);
    let saved: Snapshot = harness.supervisor.snapshot();
    assert_eq!(saved.apps.iter().map(|app| app.processes[0].up).collect::<Vec<_>>(), [true, true, true, true, false]);
    harness.supervisor = Supervisor::default();
    let booted = harness.ask(Request::Restore(saved));
    assert_eq!(booted, [spawn(1, 0), spawn(2, 1), spawn(3, 4)], "the job is of this boot again");
    harness.exit(2, 1);
    harness.input(Input::Spawned { run: Run(3) });
    harness.exit(3, 0);
    assert_eq!(harness.exit(4, 1), [spawn(5, 1)], "the database takes its time");
    assert_eq!(harness.ready(5), [spawn(6, 2)]);
    assert_eq!(harness.ready(6), [spawn(7, 3)]);
}

#[test]
fn a_held_operation_is_still_held_by_the_next_daemon() {
    let (mut harness, _) = stage(vec![app("db", &[]), app("api", &["db"])]);
    let records: Vec<_> = harness.supervisor.all_records().collect();
    harness.supervisor =
        Supervisor::from_records(records.iter().map(|(key, text)| (*key, text.as_str()))).expect("records");
    assert_eq!(waits_for(&harness, 2).as_deref(), Some("waits for `db` to be ready"));
    assert_eq!(harness.ready(2), [spawn(3, 2)]);
    let mut harness = pair();
    harness.act(Action::Stop, "all");
    let records: Vec<_> = harness.supervisor.all_records().collect();
    harness.supervisor =
        Supervisor::from_records(records.iter().map(|(key, text)| (*key, text.as_str()))).expect("records");
    assert_eq!(harness.exit(3, 0), [terminate(2)]);
}

#[test]
fn a_hold_is_published_once() {
    let mut supervisor = Supervisor::default();
    let apps = vec![app("db", &[]), app("cache", &[]), app("api", &["cache", "db"])];
    let mut now = crate::supervisor::Moment(1000);
    let mut tell = |supervisor: &mut Supervisor, input| {
        now = now.after(Duration::from_millis(1));
        let held = |effect: &Effect| {
            let Effect::Publish { process, kind: EventKind::Held { why } } = effect else { return None };
            Some((process.0, why.clone()))
        };
        supervisor.handle(now, input).iter().filter_map(held).collect::<Vec<_>>()
    };
    let held = tell(&mut supervisor, Input::Request { ticket: Ticket(1), ask: launch(apps) });
    assert_eq!(held, [(2, "waits for `cache` to be ready".to_owned())]);
    assert_eq!(tell(&mut supervisor, Input::Tick), []);
    assert_eq!(tell(&mut supervisor, Input::Spawned { run: Run(2) }), []);
    let proof = crate::supervisor::Proof::Message;
    let held = tell(&mut supervisor, Input::Ready { run: Run(2), proof });
    assert_eq!(held, [(2, "waits for `db` to be ready".to_owned())]);
}

#[test]
fn an_idle_dependency_counts_as_ready() {
    let rests = Process { goal: Goal::Up, state: State::Idle, ..pair().process(1).clone() };
    let mut harness = pair();
    harness.supervisor.processes.insert(ProcessId(1), rests);
    harness.supervisor.runs.remove(&Run(2));
    assert_eq!(harness.act(restart(), "api"), [terminate(3)]);
    assert_eq!(Condition::default(), Condition::Ready);
    assert_eq!(harness.input(Input::Exited { run: Run(3), exit: Exit::Code(0), survivors: false }), [spawn(4, 2)]);
}
