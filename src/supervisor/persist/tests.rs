//! Records one by one: what is written when, what is read, what is refused, and what is left to do. That nothing is
//! forgotten in any history is for the simulation to show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::protocol::{Action, Changes, Exit, Launch, Scale};
use crate::spec::AppSpec;
use crate::supervisor::harness::{Harness, cluster, drain, fork, kill, reload, spawn, terminate};
use crate::supervisor::{Goal, Input, Kind, Process};

/// What a store has of them.
type Store = BTreeMap<RecordKey, String>;

fn store(supervisor: &Supervisor) -> Store {
    supervisor.all_records().collect()
}

fn recover(store: &Store) -> Result<Supervisor, Unreadable> {
    Supervisor::from_records(store.iter().map(|(key, text)| (*key, text.as_str())))
}

/// The daemon dies, and the next one has its records.
fn die(play: &mut Harness) {
    play.supervisor = recover(&store(&play.supervisor)).expect("today's records can be read");
}

fn changed(play: &mut Harness) -> Vec<String> {
    play.supervisor.changes().iter().map(|(key, _)| key.to_string()).collect()
}

fn named(name: &str, spec: AppSpec) -> AppSpec {
    AppSpec { name: name.to_owned(), ..spec }
}

/// The store with one record replaced, or removed.
fn refusal(play: &Harness, key: RecordKey, text: Option<&str>) -> Unreadable {
    let mut store = store(&play.supervisor);
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
fn what_changed_is_handed_out_once_and_nothing_else_is() {
    let mut play = Harness::with(cluster(2));
    play.launch(named("web", fork(1)), Launch::New);
    let all = ["mind", "spec/0", "spec/1", "work/0", "work/1", "process/0", "process/1", "process/2"];
    assert_eq!(changed(&mut play), all);
    assert_eq!(changed(&mut play), [""; 0]);
    play.hear(Input::Tick);
    play.hear(Input::Sampled { run: Run(1), memory: 1 });
    assert_eq!(changed(&mut play), [""; 0]);
    play.exit(1, 1);
    assert_eq!(changed(&mut play), ["mind", "process/0"], "one restart is one small record and a run number");
    play.act(Action::Stop, "1");
    assert_eq!(changed(&mut play), ["work/0", "process/1"]);
    play.exit(2, 0);
    assert_eq!(changed(&mut play), ["work/0", "process/1"]);
    play.act(Action::Reset, "1");
    assert_eq!(changed(&mut play), ["process/1"]);
    play.act(Action::Scale(Scale::Up(1)), "api");
    assert_eq!(changed(&mut play), ["mind", "spec/0", "work/0", "process/3"]);
}

#[test]
fn what_is_no_more_is_handed_out_as_none() {
    let mut play = Harness::with(cluster(1));
    play.supervisor.changes();
    play.act(Action::Delete, "api");
    play.exit(1, 0);
    let gone: Vec<_> = play.supervisor.changes().into_iter().filter(|(_, text)| text.is_none()).collect();
    let keys = [RecordKey::Spec(AppId(0)), RecordKey::Work(AppId(0)), RecordKey::Process(ProcessId(0))];
    assert_eq!(gone, keys.map(|key| (key, None)));
    assert!(play.supervisor.all_records().map(|(key, _)| key).eq([RecordKey::Meta]));
}

#[test]
fn no_records_are_a_fresh_start_and_a_fresh_start_has_none() {
    assert!(Supervisor::default().changes().is_empty());
    let fresh = recover(&Store::new()).unwrap();
    assert_eq!(store(&fresh), store(&Supervisor::default()));
}

#[test]
fn a_reload_goes_on_and_keeps_what_it_may_have_to_return_to() {
    let mut play = Harness::with(cluster(3));
    let newer = AppSpec { args: vec!["--new".to_owned()], ..cluster(3) };
    play.launch(newer, Launch::OrReload(crate::protocol::Rollout::waves(1)));
    die(&mut play);
    assert_eq!(play.supervisor.unfinished(play.now), [spawn(4, 0)]);
    assert_eq!(play.supervisor.apps[&AppId(0)].spec.args, ["--new"]);
    assert_eq!(play.ready(4), [drain(1), spawn(5, 1)][..1], "the next waits for the old one to be gone");
    play.pass(1000);
    die(&mut play);
    let rest = Effect::Drain { run: Run(1), grace: Duration::from_secs(4) };
    assert_eq!(play.supervisor.unfinished(play.now), [rest]);
    assert_eq!(play.exit(1, 0), [spawn(5, 1)]);
    play.exit(5, 1);
    assert_eq!(play.supervisor.apps[&AppId(0)].spec.args, [""; 0], "it failed: the spec before is back");
    assert_eq!(play.process(2).restarts, 0);
}

#[test]
fn operations_that_wait_keep_their_order_and_their_specs() {
    let mut play = Harness::with(cluster(2));
    play.act(reload(), "api");
    let changes = Changes { settings: vec![], base_env: Some([("A".to_owned(), "1".to_owned())].into()) };
    play.act(Action::Restart(changes), "api");
    play.act(Action::Scale(Scale::To(1)), "api");
    die(&mut play);
    let kinds: Vec<Kind> = play.supervisor.apps[&AppId(0)].operations.iter().map(|operation| operation.kind).collect();
    assert_eq!(kinds, [Kind::Reload, Kind::Restart, Kind::Scale(Scale::To(1))]);
    for (run, old) in [(3, 1), (4, 2)] {
        play.ready(run);
        play.exit(old, 0);
    }
    assert_eq!(play.supervisor.apps[&AppId(0)].spec.base_env.len(), 1);
    for run in [3, 4] {
        play.exit(run, 0);
    }
    play.up();
    assert_eq!(play.process(1).goal, Goal::Gone, "the scale had its turn");
}

#[test]
fn departures_are_told_what_their_stage_is() {
    let mut play = Harness::with(fork(3));
    play.act(Action::Stop, "1");
    play.act(Action::Stop, "2");
    play.pass(1600);
    play.act(Action::Stop, "0");
    die(&mut play);
    assert_eq!(play.supervisor.unfinished(play.now), [terminate(1), kill(2), kill(3)]);
    let unknown = Input::Exited { run: Run(2), exit: Exit::Unknown, survivors: false };
    assert_eq!(play.hear(unknown), []);
    assert_eq!(play.process(1).last_exit, Some(Exit::Unknown));
    assert_eq!(play.pass(1600), [kill(1), kill(3)]);
}

#[test]
fn what_is_done_late_has_its_whole_time() {
    let mut play = Harness::with(fork(1));
    play.act(Action::Stop, "api");
    die(&mut play);
    play.pass(1500);
    play.hear(Input::Delayed { run: Run(1) });
    assert_eq!((play.pass(1599), play.pass(1)), (vec![], vec![kill(1)]));
    play.exit(1, 0);
    play.act(Action::Start(Changes::default()), "api");
    play.now = play.now.after(Duration::from_secs(60));
    play.hear(Input::Delayed { run: Run(2) });
    let Process { started, state: State::Launching { since, ready_by, .. }, .. } = play.process(0) else { panic!() };
    let by = play.now.after(Duration::from_secs(3));
    assert_eq!((*started, *since, *ready_by), (Some(play.now), play.now, Some(by)));
}

#[test]
fn an_end_that_was_told_stands() {
    let mut play = Harness::with(AppSpec { name: "job".to_owned(), ..fork(1) });
    play.abandon(1);
    die(&mut play);
    let again = |survivors| Input::Exited { run: Run(1), exit: Exit::Unknown, survivors };
    assert_eq!(play.hear(again(true)), []);
    assert_eq!(play.hear(again(false)), [spawn(2, 0)]);
    assert_eq!(play.process(0).last_exit, Some(Exit::Code(1)));
}

#[test]
fn a_start_that_waits_is_saved_as_up() {
    let mut play = Harness::with(cluster(2));
    play.act(Action::Stop, "1");
    play.exit(2, 0);
    play.act(reload(), "0");
    play.act(Action::Start(Changes::default()), "1");
    assert_eq!(play.process(1).goal, Goal::Down, "it waits for the reload");
    let up =
        |play: &Harness| play.supervisor.snapshot().apps[0].processes.iter().map(|saved| saved.up).collect::<Vec<_>>();
    assert_eq!(up(&play), [true, true]);
    play.act(Action::Stop, "1");
    assert_eq!(up(&play), [true, false], "the last word counts");
}

#[test]
fn numbers_go_on_and_lost_ones_are_skipped() {
    let mut play = Harness::with(fork(1));
    play.supervisor.changes();
    die(&mut play);
    play.supervisor.skip_runs_to(Run(1));
    assert_eq!(changed(&mut play), [""; 0]);
    play.supervisor.skip_runs_to(Run(7));
    assert_eq!(changed(&mut play), ["mind"]);
    die(&mut play);
    assert_eq!(play.exit(1, 1), [spawn(8, 0)]);
    play.launch(named("web", fork(1)), Launch::New);
    assert_eq!(play.process(1).app, AppId(1));
}

#[test]
fn a_shutdown_stays_one() {
    let mut play = Harness::with(fork(1));
    play.ask(crate::supervisor::Request::ShutDown);
    die(&mut play);
    assert!(play.supervisor.is_closing());
    play.launch(fork(1), Launch::New);
    assert!(play.answers.pop().unwrap().is_err());
    assert_eq!(play.ask(crate::supervisor::Request::ShutDown), []);
    play.exit(1, 0);
    assert_eq!(play.verdicts().len(), 1);
}

#[test]
fn apps_of_one_shell_share_their_environment_again() {
    let env = Arc::new([("PATH".to_owned(), "/bin".to_owned())].into());
    let mut play = Harness::with(AppSpec { base_env: env, ..cluster(1) });
    let env = Arc::clone(&play.supervisor.apps[&AppId(0)].spec.base_env);
    play.launch(AppSpec { base_env: env, ..named("web", fork(1)) }, Launch::New);
    die(&mut play);
    let specs: Vec<_> = play.supervisor.apps().map(|app| &app.spec).collect();
    assert!(Arc::ptr_eq(&specs[0].base_env, &specs[1].base_env));
}

#[test]
fn what_a_later_build_adds_is_ignored_but_not_another_version() {
    let mut play = Harness::with(cluster(1));
    play.act(reload(), "api");
    let mut store = store(&play.supervisor);
    for text in store.values_mut() {
        *text = text.replacen('{', "{\"novelty\":[1],", 1);
    }
    assert_eq!(self::store(&recover(&store).unwrap()), self::store(&play.supervisor));
    let later = refusal(&play, RecordKey::Meta, Some("{\"version\":2,\"last_run\":\"run-7\"}"));
    assert_eq!(later.to_string(), "record `mind`: it was written by a later version (format 2)");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let play = Harness::with(cluster(2));
    let one = RecordKey::Process(ProcessId(1));
    let zero = &store(&play.supervisor)[&RecordKey::Process(ProcessId(0))];
    assert_eq!(refusal(&play, RecordKey::Meta, None).to_string(), "record `mind`: it is missing");
    assert_eq!(refusal(&play, RecordKey::Spec(AppId(0)), None).to_string(), "record `process/0`: its app is not there");
    let stray = refusal(&play, RecordKey::Work(AppId(5)), Some("{\"operations\":[]}"));
    assert_eq!(stray.to_string(), "record `work/5`: its app is not there");
    assert_eq!(refusal(&play, one, Some(zero)).why, "it is about process 0");
    let twin = refusal(&play, one, Some(&zero.replace("\"id\":0", "\"id\":1")));
    assert_eq!(twin.to_string(), "record `process/1`: run 1 is that of process 0, too");
    let torn = refusal(&play, one, Some("{\"id\":1,"));
    assert!(torn.key == one && torn.why.contains("EOF"), "{torn}");
}
