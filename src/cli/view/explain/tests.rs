//! Pages about an app that crashed, and about one that somebody stopped.

use super::*;
use crate::cli::view::sample;
use crate::protocol::event::{EventProcess, Requester};
use crate::spec::Health;
use crate::spec::health::Probe;
use jiff::tz::TimeZone;

const LOOK: Look = Look { color: false, width: None };

fn event(at: EpochMs, kind: EventKind) -> Event {
    let process = EventProcess { id: 3, name: "api".into(), namespace: "default".into() };
    Event { seq: at, at, process: Some(process), kind }
}

fn asked_for(at: EpochMs, verb: &str) -> Event {
    let by = Requester { uid: 1000, pid: 7, command: format!("/usr/bin/pmr {verb} api") };
    event(at, EventKind::Requested { verb: verb.into(), by })
}

fn exited(at: EpochMs, exit: Exit, expected: bool) -> Event {
    event(at, EventKind::Exited { exit, expected })
}

fn page(change: impl FnOnce(&mut Description), events: &[Event], last_words: &[(String, Vec<String>)]) -> String {
    let mut one = sample::description();
    change(&mut one);
    let names = Names { zone: TimeZone::UTC, user: &|uid| format!("u{uid}") };
    text(&AppRecord { processes: &[one], events, last_words, now: 1_060_000 }, &names, LOOK)
}

#[test]
fn a_crash_is_told_with_its_meaning_its_age_and_its_last_words() {
    let events = [
        asked_for(1_000, "start"),
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
    code 127 usually means: a command was not found: look at PATH
    next: nothing: mend what is wrong, then `pmr restart api`
Its last ends
  1970-01-01 00:00:03  process 3, code 127 after 2500 ms: a command was not found: look at PATH
Who asked for what
  1970-01-01 00:00:01  `start` was asked by u1000: pmr start api
Listens on
  [::]:3000 (round robin, 4 workers)
Connections
  process 3: 1042 handled so far
The end of /h/e.log
  no such  (2 times)
  the end
`pmr history api` tells more, `pmr describe api` its rules"
    );
}

#[test]
fn whoever_stopped_it_is_named() {
    let events =
        [event(1, EventKind::Started { pid: 9 }), asked_for(2_000, "stop"), exited(2_100, Exit::Signal(2), true)];
    let stopped = |one: &mut Description| {
        (one.info.status, one.info.pid, one.info.last_exit) = (Status::Stopped, None, Some(Exit::Signal(2)));
    };
    let page = page(stopped, &events, &[]);
    assert!(page.contains("why: `stop` was asked by u1000: pmr stop api (1970-01-01 00:00:02)"), "{page}");
    assert!(page.contains("next: nothing, until `pmr start api`"), "{page}");
    assert!(!page.contains("usually means"), "a stop signal of ours has no other meaning: {page}");
}

#[test]
fn an_end_that_rules_made_final_is_no_wish_of_anybody() {
    let events = [asked_for(1, "start"), exited(2, Exit::Code(0), false)];
    let page = page(|one| (one.info.status, one.info.pid) = (Status::Stopped, None), &events, &[]);
    assert!(page.contains("why: its end (code 0) was final by its rules"), "{page}");
}

#[test]
fn a_limit_is_named_as_the_cause() {
    let limit = EventKind::OverMemory { bytes: 400 << 20, limit: 300 << 20 };
    let events = [asked_for(1, "start"), event(2, limit), exited(3, Exit::Signal(2), true)];
    let page = page(|_| {}, &events, &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): uses 400"), "{page}");
    assert!(page.contains("next: it runs on; should it end by itself, it is started again at once"), "{page}");
}

#[test]
fn one_that_serves_is_not_what_failed() {
    let failed = |one: &mut Description| one.info.reason = Some("was killed by SIGSEGV while it was watched".into());
    let page = page(failed, &[], &[]);
    assert!(page.contains("    what was to replace it failed: was killed by SIGSEGV while it was watched\n"), "{page}");
    assert!(!page.contains("why:"), "{page}");
}

#[test]
fn what_a_check_found_is_told_and_what_follows_is_what_its_owner_chose() {
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
    assert!(alone.contains("; it is checked on and stays, by its `on_fail`"), "{alone}");
}

#[test]
fn a_job_that_is_done_has_done_nothing_wrong() {
    let events =
        [event(1, EventKind::Started { pid: 9 }), exited(900, Exit::Code(0), false), event(901, EventKind::Completed)];
    let page = page(|one| (one.info.status, one.info.pid) = (Status::Completed, None), &events, &[]);
    assert!(page.contains("code 0 after 899 ms: it had done what it was for\n"), "{page}");
    assert!(!page.contains("did not listen"), "{page}");
}

#[test]
fn who_rests_was_not_told_to_end_by_who_started_it() {
    let started = || event(2, EventKind::Started { pid: 9 });
    let rest = [asked_for(1, "start"), started(), exited(3, Exit::Signal(2), true), event(4, EventKind::Idle)];
    let page = page(|_| {}, &rest, &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): rests: nobody needs it\n"), "{page}");
    let stopped = [started(), asked_for(5, "stop"), exited(6, Exit::Signal(2), true)];
    let page = self::page(|one| one.info.restarts = 1, &[&rest[..], &stopped].concat(), &[]);
    assert!(page.contains("process 3, signal 2 (SIGINT): `stop` was asked"), "{page}");
    assert!(page.contains(", 1 restart\n"), "{page}");
}

#[test]
fn what_is_under_way_is_told_and_why_a_successor_went() {
    let events = [
        asked_for(1_000, "reload"),
        event(1_500, EventKind::NotReplaced { reason: "status 500".into(), old_serves: true }),
        exited(1_600, Exit::Signal(2), true),
    ];
    let stage = Stage::Watched { left_ms: Some(2_400) };
    let tried = |one: &mut Description| one.under_way = Some(UnderWay { verb: "reload".into(), stage });
    let page = page(tried, &events, &[]);
    let now = "now: a reload is under way: it is tried out, for 3 s more; then the rest follows, or it is taken back";
    assert!(page.contains(now), "{page}");
    let why = "signal 2 (SIGINT): could not be replaced: status 500; the old process goes on serving (1970-01-01";
    assert!(page.contains(why), "{page}");
}

#[test]
fn what_ended_and_left_children_has_not_come_to_its_end() {
    let events = [event(1, EventKind::Started { pid: 9 }), exited(2_100, Exit::Code(0), false)];
    let leaving = |one: &mut Description| (one.info.status, one.info.pid) = (Status::Stopping, None);
    let page = page(leaving, &events, &[]);
    assert!(page.contains("why: it ended by itself (code 0), and what it left running is ended too"), "{page}");
}

#[test]
fn what_waits_has_not_failed() {
    let waits = |one: &mut Description| {
        let held = "waits for `db` to be healthy".to_owned();
        one.info.reason = Some(held.clone());
        one.under_way = Some(UnderWay { verb: "reload".into(), stage: Stage::Waits { held: Some(held) } });
    };
    let page = page(waits, &[], &[]);
    assert!(page.contains("now: a reload waits for `db` to be healthy") && !page.contains("failed"), "{page}");
}

#[test]
fn who_has_had_its_time_to_be_ready_may_take_more() {
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
