//! Pages of apps in many states.

use super::*;
use crate::cli::view::sample;
use crate::protocol::event::{EventProcess, Requester};
use crate::spec::Health;
use crate::spec::health::Probe;
use jiff::tz::TimeZone;

const TERMINAL: Terminal = Terminal { color: false, width: None };

fn event(at: EpochMs, kind: EventKind) -> Event {
    let process = EventProcess { id: 3, name: "api".into(), namespace: "default".into() };
    Event { seq: at, at, process: Some(process), kind }
}

fn requested(at: EpochMs, verb: &str) -> Event {
    let by = Requester { uid: 1000, pid: 7, command: format!("/usr/bin/pmr {verb} api") };
    event(at, EventKind::Requested { verb: verb.into(), by })
}

fn exited(at: EpochMs, exit: Exit, expected: bool) -> Event {
    event(at, EventKind::Exited { exit, expected })
}

fn page(change: impl FnOnce(&mut Description), events: &[Event], last_output: &[(String, Vec<String>)]) -> String {
    let mut one = sample::description();
    change(&mut one);
    let names = Names { zone: TimeZone::UTC, user: &|uid| format!("u{uid}") };
    text(&AppRecord { processes: &[one], events, last_output, now: 1_060_000 }, &names, TERMINAL)
}

#[test]
fn the_page_of_a_crash_has_its_meaning_its_run_time_and_the_last_output() {
    let events = [
        requested(1_000, "start"),
        event(1_010, EventKind::Started { pid: 9 }),
        exited(3_510, Exit::Code(127), false),
        event(3_520, EventKind::Errored { reason: "given up".into() }),
    ];
    let words = [("/h/e.log".to_owned(), ["no such", "no such", "the end"].map(str::to_owned).to_vec())];
    let given_up = |one: &mut Description| {
        (one.info.status, one.info.pid) = (Status::Errored, None);
        (one.info.last_exit, one.info.reason) = (Some(Exit::Code(127)), Some("given up after 16".into()));
    };
    assert_eq!(
        page(given_up, &events, &words),
        "api · cluster · 1 process
  process 3: errored, 2 restarts
    why: given up after 16
    code 127 usually means: a command was not found: check PATH
    next: nothing: fix the error, then `pmr restart api`
Last exits
  1970-01-01 00:00:03  process 3, code 127 after 2500 ms: a command was not found: check PATH
Requests
  1970-01-01 00:00:01  `start` was requested by u1000: pmr start api
Listens on
  [::]:3000 (round robin, 4 workers)
Connections
  process 3: 1042 handled so far
Last lines of /h/e.log
  no such  (2 times)
  the end
`pmr history api` shows more events, `pmr describe api` the settings"
    );
}

#[test]
fn the_page_of_a_stopped_app_names_the_requester() {
    let events =
        [event(1, EventKind::Started { pid: 9 }), requested(2_000, "stop"), exited(2_100, Exit::Signal(2), true)];
    let stopped = |one: &mut Description| {
        (one.info.status, one.info.pid, one.info.last_exit) = (Status::Stopped, None, Some(Exit::Signal(2)));
    };
    let page = page(stopped, &events, &[]);
    assert!(page.contains("why: `stop` was requested by u1000: pmr stop api (1970-01-01 00:00:02)"), "{page}");
    assert!(page.contains("next: nothing, until `pmr start api`"), "{page}");
    assert!(!page.contains("usually means"), "a stop signal of ours has no other meaning: {page}");
}

#[test]
fn an_exit_that_is_final_by_the_settings_names_no_requester() {
    let events = [requested(1, "start"), exited(2, Exit::Code(0), false)];
    let page = page(|one| (one.info.status, one.info.pid) = (Status::Stopped, None), &events, &[]);
    assert!(page.contains("why: its exit (code 0) was final by its settings"), "{page}");
}

#[test]
fn a_limit_is_named_as_the_cause() {
    let limit = EventKind::OverMemory { bytes: 400 << 20, limit: 300 << 20 };
    let events = [requested(1, "start"), event(2, limit), exited(3, Exit::Signal(2), true)];
    let page = page(|_| {}, &events, &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): uses 400"), "{page}");
    assert!(page.contains("next: it keeps running; if it exits, it is restarted at once"), "{page}");
}

#[test]
fn the_page_of_a_serving_process_says_that_its_successor_failed() {
    let failed = |one: &mut Description| one.info.reason = Some("was killed by SIGSEGV before it was ready".into());
    let page = page(failed, &[], &[]);
    assert!(page.contains("    its successor failed: was killed by SIGSEGV before it was ready\n"), "{page}");
    assert!(!page.contains("why:"), "{page}");
}

#[test]
fn the_page_of_an_unhealthy_process_has_the_fault_and_the_chosen_consequence() {
    let sick = |on_fail| {
        move |one: &mut Description| {
            (one.info.status, one.info.fault) = (Status::Unhealthy, Some("GET /up: status 500".into()));
            let health = Health { on_fail, ..Health::new(Probe::http("/up").unwrap()) };
            one.spec.health = Some(health);
        }
    };
    let replaced = page(sick(OnFail::Restart), &[], &[]);
    assert!(replaced.contains("why: GET /up: status 500") && replaced.contains("; it is replaced,"), "{replaced}");
    let alone = page(sick(OnFail::Alert), &[], &[]);
    assert!(alone.contains("; it is not replaced, as its `on_fail` says"), "{alone}");
}

#[test]
fn the_page_of_a_completed_job_shows_no_error() {
    let events =
        [event(1, EventKind::Started { pid: 9 }), exited(900, Exit::Code(0), false), event(901, EventKind::Completed)];
    let page = page(|one| (one.info.status, one.info.pid) = (Status::Completed, None), &events, &[]);
    assert!(page.contains("code 0 after 899 ms: it was completed\n"), "{page}");
    assert!(!page.contains("did not listen"), "{page}");
}

#[test]
fn an_idle_exit_is_not_attributed_to_the_start_request() {
    let started = || event(2, EventKind::Started { pid: 9 });
    let rest = [requested(1, "start"), started(), exited(3, Exit::Signal(2), true), event(4, EventKind::Idle)];
    let page = page(|_| {}, &rest, &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): idle: stopped until the next connection\n"), "{page}");
    let stopped = [started(), requested(5, "stop"), exited(6, Exit::Signal(2), true)];
    let page = self::page(|one| one.info.restarts = 1, &[&rest[..], &stopped].concat(), &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): `stop` was requested"), "{page}");
    assert!(page.contains(", 1 restart\n"), "{page}");
}

#[test]
fn the_page_names_the_operation_and_why_a_successor_failed() {
    let events = [
        requested(1_000, "reload"),
        event(1_500, EventKind::NotReplaced { reason: "status 500".into(), old_serves: true }),
        exited(1_600, Exit::Signal(2), true),
    ];
    let stage = Stage::Watched { left_ms: Some(2_400) };
    let tried = |one: &mut Description| one.under_way = Some(UnderWay { verb: "reload".into(), stage });
    let page = page(tried, &events, &[]);
    let now = "now: a reload is under way: the canary of api is observed for another 3 s; then the rest follows";
    assert!(page.contains(now), "{page}");
    let why = "signal 2 (SIGINT): could not be replaced: status 500; the old process goes on serving (1970-01-01";
    assert!(page.contains(why), "{page}");
}

#[test]
fn the_page_of_a_stopping_process_names_its_remaining_children() {
    let events = [event(1, EventKind::Started { pid: 9 }), exited(2_100, Exit::Code(0), false)];
    let leaving = |one: &mut Description| (one.info.status, one.info.pid) = (Status::Stopping, None);
    let page = page(leaving, &events, &[]);
    assert!(page.contains("why: it ended by itself (code 0), and its remaining child processes are stopped"), "{page}");
}

#[test]
fn the_page_of_a_waiting_reload_shows_no_failure() {
    let waits = |one: &mut Description| {
        let held = "waits for `db` to be healthy".to_owned();
        one.info.reason = Some(held.clone());
        one.under_way = Some(UnderWay { verb: "reload".into(), stage: Stage::Waits { held: Some(held) } });
    };
    let page = page(waits, &[], &[]);
    assert!(page.contains("now: a reload waits for `db` to be healthy") && !page.contains("failed"), "{page}");
}

#[test]
fn a_launch_that_exceeded_its_limit_is_shown_without_one() {
    let launching = |age: EpochMs| {
        move |one: &mut Description| {
            one.info.status = Status::Launching;
            one.info.started_at = Some(1_060_000 - age);
            one.spec.readiness.listen_timeout = Some(Duration::from_secs(3));
        }
    };
    assert!(page(launching(1_000), &[], &[]).contains("until it is ready, 3 s at most"));
    assert!(!page(launching(4_000), &[], &[]).contains("at most"));
}
