//! Start, stop and reload of apps that depend on each other, told as short stories.

use std::time::Duration;

use crate::protocol::{Action, Changes, EventKind, Exit, Launch, Refusal, Rollout, Run, Verdict};
use crate::spec::dependency::{Condition, parse};
use crate::spec::health::{Health, Probe};
use crate::spec::{AppSpec, Dependencies, Readiness, RestartRule};
use crate::supervisor::play::{Play, fork, reload, spawn, terminate};
use crate::supervisor::{Ask, Effect, Goal, Input, Process, ProcessId, Snapshot, State, Supervisor, Ticket};

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

fn launch(apps: Vec<AppSpec>) -> Ask {
    Ask::Launch { apps, how: Launch::New }
}

/// A stage with these apps, of which nothing is ready yet.
fn stage(apps: Vec<AppSpec>) -> (Play, Vec<Effect>) {
    let mut play = Play::with(AppSpec { name: "other".to_owned(), ..fork(1) });
    let effects = play.ask(launch(apps));
    (play, effects)
}

/// A `db` (process 1, run 2) and an `api` (process 2, run 3) that needs it, both ready.
fn pair() -> Play {
    let (mut play, _) = stage(vec![app("db", &[]), app("api", &["db"])]);
    play.ready(2);
    play.ready(3);
    play
}

fn start() -> Action {
    Action::Start(Changes::default())
}

fn restart() -> Action {
    Action::Restart(Changes::default())
}

fn notes(play: &Play) -> Vec<String> {
    play.answers.last().expect("an answer").as_ref().expect("no refusal").notes.clone()
}

fn refusal(play: &Play) -> String {
    match play.answers.last() {
        Some(Err(Refusal::BadSetting { key, why })) if key == "depends_on" => why.clone(),
        other => panic!("{other:?}"),
    }
}

/// Why the process could not be had, from the last answer.
fn failure(play: &Play, id: u32) -> String {
    let verdicts = play.verdicts();
    match verdicts.iter().find(|(other, _)| *other == id) {
        Some((_, Verdict::Failed { reason, .. })) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn waits_for(play: &Play, id: u32) -> Option<String> {
    play.supervisor.waits_for(play.process(id))
}

#[test]
fn each_is_started_after_what_it_needs_however_they_are_written() {
    let (mut play, effects) = stage(vec![app("web", &["api"]), app("api", &["db", "cache"]), app("cache", &[]), app("db", &[])]);
    assert_eq!(effects, [spawn(2, 3), spawn(3, 2)].iter().rev().cloned().collect::<Vec<_>>().as_slice(), "{effects:?}");
    assert_eq!(waits_for(&play, 2).as_deref(), Some("waits for `cache` to be ready"));
    assert_eq!(play.process(2).goal, Goal::Down);
    assert!(play.supervisor.shall_run(play.process(2)), "it comes back after a reboot, too");
    assert_eq!(play.ready(2), []);
    let effects = play.ready(3);
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert!(play.answers.len() == 1, "only that of the first");
    play.ready(4);
    play.ready(5);
    assert_eq!(play.verdicts().len(), 4);
    assert!(play.verdicts().iter().all(|(_, verdict)| *verdict == Verdict::Done));
}
