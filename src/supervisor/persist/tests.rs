//! Records one by one: what is written when, what is read, what is refused, and what is left to do. That nothing is
//! forgotten in any history is for the simulation to show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{RecordKey, UnknownKey, Unreadable};
use crate::protocol::{Action, Changes, Exit, Launch, Run, Scale};
use crate::spec::AppSpec;
use crate::supervisor::harness::{Harness, cluster, drain, fork, kill, reload, spawn, terminate};
use crate::supervisor::{AppId, Effect, Goal, Input, Kind, Process, ProcessId, State, Supervisor};

/// What a store has of them.
type Store = BTreeMap<RecordKey, String>;

fn store(supervisor: &Supervisor) -> Store {
    supervisor.all_records().collect()
}

fn recover(store: &Store) -> Result<Supervisor, Unreadable> {
    Supervisor::from_records(store.iter().map(|(key, text)| (*key, text.as_str())))
}

/// The daemon dies, and the next one has its records.
fn die(harness: &mut Harness) {
    harness.supervisor = recover(&store(&harness.supervisor)).expect("today's records can be read");
}

fn changed(harness: &mut Harness) -> Vec<String> {
    harness.supervisor.changes().iter().map(|(key, _)| key.to_string()).collect()
}

fn named(name: &str, spec: AppSpec) -> AppSpec {
    AppSpec { name: name.to_owned(), ..spec }
}

/// The store with one record replaced, or removed.
fn refusal(harness: &Harness, key: RecordKey, text: Option<&str>) -> Unreadable {
    let mut store = store(&harness.supervisor);
    match text {
        Some(text) => store.insert(key, text.to_owned()),
        None => store.remove(&key),
    };
    recover(&store).expect_err("it does not fit")
}

#[test]
fn keys_are_short_words() {
    let keys = ["mind", "spec/3", "work/3", "process/7"];
    for text in keys {
        assert_eq!(text.parse::<RecordKey>().unwrap().to_string(), text);
    }
    for text in ["", "minds", "spec", "spec/", "spec/-1", "spec/x", "spec/4294967296", "process/7/1", "app/1"] {
        assert_eq!(text.parse::<RecordKey>(), Err(UnknownKey(text.to_owned())));
    }
}

#[test]
fn each_changed_record_is_returned_once() {
    let mut harness = Harness::with(cluster(2));
    harness.launch(named("web", fork(1)), Launch::New);
    let all = ["mind", "spec/0", "spec/1", "work/0", "work/1", "process/0", "process/1", "process/2"];
    assert_eq!(changed(&mut harness), all);
    assert_eq!(changed(&mut harness), [""; 0]);
    harness.input(Input::Tick);
    harness.input(Input::Sampled { run: Run(1), memory: 1 });
    assert_eq!(changed(&mut harness), [""; 0]);
    harness.exit(1, 1);
    assert_eq!(changed(&mut harness), ["mind", "process/0"], "one restart is one small record and a run number");
    harness.act(Action::Stop, "1");
    assert_eq!(changed(&mut harness), ["work/0", "process/1"]);
    harness.exit(2, 0);
    assert_eq!(changed(&mut harness), ["work/0", "process/1"]);
    harness.act(Action::Reset, "1");
    assert_eq!(changed(&mut harness), ["process/1"]);
    harness.act(Action::Scale(Scale::Up(1)), "api");
    assert_eq!(changed(&mut harness), ["mind", "spec/0", "work/0", "process/3"]);
}

#[test]
fn a_removed_record_is_returned_as_none() {
    let mut harness = Harness::with(cluster(1));
    harness.supervisor.changes();
    harness.act(Action::Delete, "api");
    harness.exit(1, 0);
    let gone: Vec<_> = harness.supervisor.changes().into_iter().filter(|(_, text)| text.is_none()).collect();
    let keys = [RecordKey::Spec(AppId(0)), RecordKey::Work(AppId(0)), RecordKey::Process(ProcessId(0))];
    assert_eq!(gone, keys.map(|key| (key, None)));
    assert!(harness.supervisor.all_records().map(|(key, _)| key).eq([RecordKey::Meta]));
}

#[test]
fn a_fresh_supervisor_has_no_records_and_none_make_a_fresh_one() {
    assert!(Supervisor::default().changes().is_empty());
    let fresh = recover(&Store::new()).unwrap();
    assert_eq!(store(&fresh), store(&Supervisor::default()));
}

#[test]
fn a_recovered_reload_goes_on_and_can_still_roll_back() {
    let mut harness = Harness::with(cluster(3));
    let newer = AppSpec { args: vec!["--new".to_owned()], ..cluster(3) };
    harness.launch(newer, Launch::OrReload(crate::protocol::Rollout::waves(1)));
    die(&mut harness);
    assert_eq!(harness.supervisor.unfinished(harness.now), [spawn(4, 0)]);
    assert_eq!(harness.supervisor.apps[&AppId(0)].spec.args, ["--new"]);
    assert_eq!(harness.ready(4), [drain(1), spawn(5, 1)][..1], "the next waits for the old one to be gone");
    harness.pass(1000);
    die(&mut harness);
    let rest = Effect::Drain { run: Run(1), grace: Duration::from_secs(4) };
    assert_eq!(harness.supervisor.unfinished(harness.now), [rest]);
    assert_eq!(harness.exit(1, 0), [spawn(5, 1)]);
    harness.exit(5, 1);
    assert_eq!(harness.supervisor.apps[&AppId(0)].spec.args, [""; 0], "it failed: the spec before is back");
    assert_eq!(harness.process(2).restarts, 0);
}

#[test]
fn waiting_operations_keep_their_order_and_specs() {
    let mut harness = Harness::with(cluster(2));
    harness.act(reload(), "api");
    let changes = Changes { settings: vec![], base_env: Some([("A".to_owned(), "1".to_owned())].into()) };
    harness.act(Action::Restart(changes), "api");
    harness.act(Action::Scale(Scale::To(1)), "api");
    die(&mut harness);
    let kinds: Vec<Kind> =
        harness.supervisor.apps[&AppId(0)].operations.iter().map(|operation| operation.kind).collect();
    assert_eq!(kinds, [Kind::Reload, Kind::Restart, Kind::Scale(Scale::To(1))]);
    for (run, old) in [(3, 1), (4, 2)] {
        harness.ready(run);
        harness.exit(old, 0);
    }
    assert_eq!(harness.supervisor.apps[&AppId(0)].spec.base_env.len(), 1);
    for run in [3, 4] {
        harness.exit(run, 0);
    }
    harness.up();
    assert_eq!(harness.process(1).goal, Goal::Gone, "the scale had its turn");
}

#[test]
fn a_recovered_stop_repeats_the_effect_of_its_stage() {
    let mut harness = Harness::with(fork(3));
    harness.act(Action::Stop, "1");
    harness.act(Action::Stop, "2");
    harness.pass(1600);
    harness.act(Action::Stop, "0");
    die(&mut harness);
    assert_eq!(harness.supervisor.unfinished(harness.now), [terminate(1), kill(2), kill(3)]);
    let unknown = Input::Exited { run: Run(2), exit: Exit::Unknown, survivors: false };
    assert_eq!(harness.input(unknown), []);
    assert_eq!(harness.process(1).last_exit, Some(Exit::Unknown));
    assert_eq!(harness.pass(1600), [kill(1), kill(3)]);
}

#[test]
fn a_delayed_start_or_stop_has_its_whole_timeout() {
    let mut harness = Harness::with(fork(1));
    harness.act(Action::Stop, "api");
    die(&mut harness);
    harness.pass(1500);
    harness.input(Input::Delayed { run: Run(1) });
    assert_eq!((harness.pass(1599), harness.pass(1)), (vec![], vec![kill(1)]));
    harness.exit(1, 0);
    harness.act(Action::Start(Changes::default()), "api");
    harness.now = harness.now.after(Duration::from_secs(60));
    harness.input(Input::Delayed { run: Run(2) });
    let Process { started, state: State::Launching { since, ready_by, .. }, .. } = harness.process(0) else { panic!() };
    let by = harness.now.after(Duration::from_secs(3));
    assert_eq!((*started, *since, *ready_by), (Some(harness.now), harness.now, Some(by)));
}

#[test]
fn a_reported_exit_is_not_replaced_by_a_second_report() {
    let mut harness = Harness::with(AppSpec { name: "job".to_owned(), ..fork(1) });
    harness.abandon(1);
    die(&mut harness);
    let again = |survivors| Input::Exited { run: Run(1), exit: Exit::Unknown, survivors };
    assert_eq!(harness.input(again(true)), []);
    assert_eq!(harness.input(again(false)), [spawn(2, 0)]);
    assert_eq!(harness.process(0).last_exit, Some(Exit::Code(1)));
}

#[test]
fn a_process_whose_start_waits_is_saved_as_up() {
    let mut harness = Harness::with(cluster(2));
    harness.act(Action::Stop, "1");
    harness.exit(2, 0);
    harness.act(reload(), "0");
    harness.act(Action::Start(Changes::default()), "1");
    assert_eq!(harness.process(1).goal, Goal::Down, "it waits for the reload");
    let up = |harness: &Harness| {
        harness.supervisor.snapshot().apps[0].processes.iter().map(|saved| saved.up).collect::<Vec<_>>()
    };
    assert_eq!(up(&harness), [true, true]);
    harness.act(Action::Stop, "1");
    assert_eq!(up(&harness), [true, false], "the last word counts");
}

#[test]
fn run_numbers_continue_and_lost_numbers_are_skipped() {
    let mut harness = Harness::with(fork(1));
    harness.supervisor.changes();
    die(&mut harness);
    harness.supervisor.skip_runs_to(Run(1));
    assert_eq!(changed(&mut harness), [""; 0]);
    harness.supervisor.skip_runs_to(Run(7));
    assert_eq!(changed(&mut harness), ["mind"]);
    die(&mut harness);
    assert_eq!(harness.exit(1, 1), [spawn(8, 0)]);
    harness.launch(named("web", fork(1)), Launch::New);
    assert_eq!(harness.process(1).app, AppId(1));
}

#[test]
fn a_recovered_shutdown_is_still_a_shutdown() {
    let mut harness = Harness::with(fork(1));
    harness.ask(crate::supervisor::Request::ShutDown);
    die(&mut harness);
    assert!(harness.supervisor.is_closing());
    harness.launch(fork(1), Launch::New);
    assert!(harness.answers.pop().unwrap().is_err());
    assert_eq!(harness.ask(crate::supervisor::Request::ShutDown), []);
    harness.exit(1, 0);
    assert_eq!(harness.verdicts().len(), 1);
}

#[test]
fn recovered_apps_of_one_shell_share_their_environment() {
    let env = Arc::new([("PATH".to_owned(), "/bin".to_owned())].into());
    let mut harness = Harness::with(AppSpec { base_env: env, ..cluster(1) });
    let env = Arc::clone(&harness.supervisor.apps[&AppId(0)].spec.base_env);
    harness.launch(AppSpec { base_env: env, ..named("web", fork(1)) }, Launch::New);
    die(&mut harness);
    let specs: Vec<_> = harness.supervisor.apps().map(|app| &app.spec).collect();
    assert!(Arc::ptr_eq(&specs[0].base_env, &specs[1].base_env));
}

#[test]
fn unknown_fields_are_ignored_and_a_later_version_is_refused() {
    let mut harness = Harness::with(cluster(1));
    harness.act(reload(), "api");
    let mut store = store(&harness.supervisor);
    for text in store.values_mut() {
        *text = text.replacen('{', "{\"novelty\":[1],", 1);
    }
    assert_eq!(self::store(&recover(&store).unwrap()), self::store(&harness.supervisor));
    let later = refusal(&harness, RecordKey::Meta, Some("{\"version\":2,\"last_run\":\"run-7\"}"));
    assert_eq!(later.to_string(), "record `mind`: it was written by a later version (format 2)");
}

#[test]
fn an_inconsistent_record_is_refused_by_name() {
    let harness = Harness::with(cluster(2));
    let one = RecordKey::Process(ProcessId(1));
    let zero = &store(&harness.supervisor)[&RecordKey::Process(ProcessId(0))];
    assert_eq!(refusal(&harness, RecordKey::Meta, None).to_string(), "record `mind`: it is missing");
    assert_eq!(
        refusal(&harness, RecordKey::Spec(AppId(0)), None).to_string(),
        "record `process/0`: its app is not there"
    );
    let stray = refusal(&harness, RecordKey::Work(AppId(5)), Some("{\"operations\":[]}"));
    assert_eq!(stray.to_string(), "record `work/5`: its app is not there");
    assert_eq!(refusal(&harness, one, Some(zero)).why, "it is about process 0");
    let twin = refusal(&harness, one, Some(&zero.replace("\"id\":0", "\"id\":1")));
    assert_eq!(twin.to_string(), "record `process/1`: run 1 is that of process 0, too");
    let torn = refusal(&harness, one, Some("{\"id\":1,"));
    assert!(torn.key == one && torn.why.contains("EOF"), "{torn}");
}
