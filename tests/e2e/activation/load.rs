//! No request is lost while workers are replaced, nor when God dies.

use nix::sys::signal::Signal;

use super::serving;
use crate::crash::kill_god;
use crate::load::{Kind, Load, Mode};
use crate::support::eventually::until;
use crate::support::listing::pids;
use crate::support::{Home, example, http, processes};

/// Concurrent clients.
const CLIENTS: usize = 6;

#[test]
fn reloads_lose_no_request() {
    let (home, port) = serving("-i 2 --wait-ready");
    let mut load = Load::start(Kind::Http, Mode::New, port, CLIENTS);
    load.until("it serves", |stats| stats.by.len() == 2);
    for _ in 0..3 {
        let before = pids(&home.of("a"));
        home.ok("reload a");
        let after = pids(&home.of("a"));
        assert!(after.iter().all(|pid| !before.contains(pid)));
        load.until("the new ones serve", |stats| after.iter().all(|pid| stats.by.contains_key(pid)));
    }
    let stats = load.stop();
    assert!(stats.failed.is_empty(), "{stats:?}");
}

#[test]
fn a_request_in_progress_is_answered_by_the_old_worker() {
    let (home, port) = (Home::new(), http::free_port());
    let words = "--wait-ready --listen-timeout 100s --drain-timeout 100s";
    let line = format!("start {} -n a -i 1 --listen tcp://127.0.0.1:{port} {words}", example("activated.py"));
    home.pmr(line.split_whitespace()).env("WORK_TAKES", "10").run().ok();
    let before = home.one("a").pid;
    let request = std::thread::spawn(move || http::get(port, "/work"));
    let has_one = |line: &str| line.contains("connections open") && line.contains(" 1 ");
    until("the request is with the worker", || home.ok("describe a").out.lines().any(has_one));
    home.ok("reload a");
    assert_eq!(request.join().unwrap().unwrap(), before.to_string());
    assert_ne!(home.one("a").pid, before);
}

#[test]
fn a_killed_worker_loses_only_its_own_requests() {
    let (home, port) = serving("-i 2");
    let mut load = Load::start(Kind::Http, Mode::New, port, CLIENTS);
    load.until("it serves", |stats| stats.by.len() == 2);
    let before = pids(&home.of("a"));
    processes::signal(before[0], Signal::SIGKILL);
    let rows = home.replaced("a", &before[..1]);
    load.until("the new one serves", |stats| stats.by.contains_key(&rows[0].pid));
    let stats = load.stop();
    assert!(stats.failed.len() <= CLIENTS && stats.failed.iter().all(|failed| failed.how != "hung"), "{stats:?}");
    assert!(stats.failed.iter().all(|failed| failed.how != "refused"), "{stats:?}");
}

#[test]
fn a_killed_god_loses_no_request_and_its_successor_goes_on() {
    let (home, port) = serving("-i 2 --wait-ready");
    let mut load = Load::start(Kind::Http, Mode::New, port, CLIENTS);
    let before = pids(&home.of("a"));
    for _ in 0..3 {
        load.until("it serves", |stats| stats.by.len() == 2);
        kill_god(&home);
        let answered = load.stats().answered;
        load.until("it serves on", |stats| stats.answered > answered + 20);
    }
    assert_eq!(pids(&home.of("a")), before);
    home.ok("describe 0").says("serving as");
    home.ok("reload a");
    let stats = load.stop();
    assert!(stats.failed.is_empty(), "{stats:?}");
}
