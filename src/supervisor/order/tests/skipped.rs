//! What is left as it is: by a reload that failed elsewhere, and by a boot.

use super::*;
use crate::protocol::Rollout;
use crate::spec::ExecMode;

/// A `db` (process 1, run 2), an `api` (2, 3) that needs it and a `web` (3, 4) that needs that, clusters, all ready.
fn three() -> Harness {
    let release = |name, needs| AppSpec { mode: ExecMode::Cluster, ..app(name, needs) };
    let (mut harness, _) = stage(vec![release("db", &[]), release("api", &["db"]), release("web", &["api"])]);
    (2..=4).for_each(|run| drop(harness.ready(run)));
    harness
}

/// What else there is has been reloaded, and the successor of `db` is on its way as run 5.
fn reload_all(harness: &mut Harness, rollout: Rollout) {
    let effects = harness.act(Action::Reload { changes: Changes::default(), rollout }, "all");
    assert_eq!(effects, [terminate(1), spawn(5, 1)]);
    assert_eq!(harness.exit(1, 0), [spawn(6, 0)]);
    harness.input(Input::Spawned { run: Run(6) });
    // It has nothing to prove itself with but that it runs.
    assert_eq!(harness.pass(1000), []);
}

fn read_back(harness: &mut Harness) {
    let records: Vec<_> = harness.supervisor.all_records().collect();
    harness.supervisor =
        Supervisor::from_records(records.iter().map(|(key, text)| (*key, text.as_str()))).expect("records");
}

#[test]
fn a_failed_reload_leaves_the_dependents_alone() {
    let mut harness = three();
    reload_all(&mut harness, Rollout::waves(1));
    assert_eq!(harness.exit(5, 1), [], "nothing follows");
    assert_eq!(failure(&harness, 1), "exited with code 1 before it was ready");
    let left = |reason: &str| Verdict::NotBegun { reason: reason.to_owned(), old_serves: true };
    let verdicts = harness.verdicts();
    assert!(verdicts.contains(&(2, left("not reloaded, because the reload of `db` failed"))), "{verdicts:?}");
    assert!(verdicts.contains(&(3, left("not reloaded, because `api` was not"))), "{verdicts:?}");
    assert!(verdicts.contains(&(0, Verdict::Done)), "{verdicts:?}");
    assert_eq!([1, 2, 3].map(|id| harness.process(id).current_run()), [2, 3, 4].map(|run| Some(Run(run))));
    assert_eq!(harness.act(reload(), "api"), [spawn(7, 2)], "asked for by itself it is reloaded: `db` serves");
}

#[test]
fn a_forced_reload_goes_on() {
    let mut harness = three();
    reload_all(&mut harness, Rollout { force: true, ..Rollout::waves(1) });
    assert_eq!(harness.exit(5, 1), [spawn(7, 2)]);
}

#[test]
fn a_stopped_app_stays_stopped_when_its_reload_is_skipped() {
    let mut harness = three();
    harness.act(Action::Stop, "web");
    harness.exit(4, 0);
    reload_all(&mut harness, Rollout::waves(1));
    read_back(&mut harness);
    assert_eq!(harness.exit(5, 1), []);
    assert_eq!(harness.process(2).current_run(), Some(Run(3)));
    assert_eq!(harness.process(3).state, State::Stopped);
    assert!(harness.supervisor.apps().all(|app| app.operations.is_empty()));
}

/// What is started when this comes back after a boot.
fn booted(harness: &mut Harness) -> Vec<Effect> {
    let saved = harness.supervisor.snapshot();
    harness.supervisor = Supervisor::default();
    harness.ask(Request::Restore(saved))
}

#[test]
fn a_restore_starts_running_apps_and_not_their_stopped_dependencies() {
    let mut harness = pair();
    harness.act(Action::Stop, "db");
    harness.exit(2, 0);
    assert_eq!(booted(&mut harness), [spawn(1, 0), spawn(2, 2)]);
    assert_eq!((&harness.process(1).state, waits_for(&harness, 2)), (&State::Stopped, None));
    read_back(&mut harness);
    harness.ready(2);
    assert!(matches!(harness.process(2).state, State::Online(_)));
    assert_eq!(harness.act(restart(), "api"), [spawn(3, 1)], "a person wants it");
    assert_eq!(waits_for(&harness, 2).as_deref(), Some("waits for `db` to be ready"));
}

#[test]
fn a_restore_does_without_a_job_whose_dependency_was_deleted() {
    let mut harness = pair();
    let migrate = AppSpec { depends_on: app("", &["db"]).depends_on, ..job("migrate") };
    harness.ask(launch(vec![app("web", &["migrate:completed"]), migrate]));
    harness.input(Input::Spawned { run: Run(4) });
    harness.exit(4, 0);
    harness.ready(5);
    harness.act(Action::Delete, "db");
    harness.exit(2, 0);
    assert_eq!(booted(&mut harness), [spawn(1, 0), spawn(2, 2), spawn(3, 3)]);
}
