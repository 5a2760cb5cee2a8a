//! Workers start, stop and die while clients are served.

use nix::sys::signal::Signal;

use super::{CLIENTS, Fixture, PYTHON, there};
use crate::support::eventually::until;
use crate::support::{app, http, processes};

fn fixture(words: &str) -> Option<Fixture> {
    let script = app("share/threads.py");
    there(PYTHON).then(|| Fixture::new(&format!("{script} --interpreter {PYTHON} {words}")))?
}

#[test]
fn an_app_scaled_under_load_loses_no_request() {
    let Some(fixture) = fixture("-i 2") else { return };
    let mut loads = fixture.loads();
    fixture.home.ok("scale it 4");
    fixture.online(4);
    assert_eq!(fixture.spread(60).len(), 4);
    fixture.home.ok("scale it 2");
    fixture.online(2);
    loads.are_served();
    assert_eq!(fixture.spread(40).len(), 2);
    loads.leave_content();
}

#[test]
fn a_killed_worker_loses_only_its_own_requests() {
    let Some(fixture) = fixture("-i 2") else { return };
    let mut loads = fixture.loads();
    for _ in 0..3 {
        let before = fixture.online(2);
        processes::signal(before[0].pid, Signal::SIGKILL);
        fixture.home.replaced("it", &[before[0].pid]);
        loads.are_served();
    }
    for stats in loads.stop() {
        let hows: Vec<&str> = stats.failed.iter().map(|failed| failed.how.as_str()).collect();
        assert!(hows.len() <= 3 * CLIENTS && !hows.contains(&"refused") && !hows.contains(&"hung"), "{stats:?}");
    }
}

#[test]
fn clients_wait_for_the_restart_of_the_only_worker() {
    let Some(fixture) = fixture("-i 1") else { return };
    let mut loads = fixture.loads();
    for _ in 0..3 {
        fixture.home.ok("restart it");
        loads.are_served();
    }
    let [new, few] = loads.stop();
    for stats in [&new, &few] {
        assert!(stats.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{stats:?}");
    }
}

#[test]
fn a_client_that_waits_too_long_for_a_crashed_app_is_answered_503() {
    let Some(fixture) = fixture("-i 2 --queue-timeout 200ms --restart-delay 1h") else { return };
    let before = fixture.online(2);
    before.iter().for_each(|row| processes::signal(row.pid, Signal::SIGKILL));
    fixture.home.when("it", "waiting", |rows| rows.iter().all(|row| row.status == "waiting restart"));
    let words = http::get(fixture.port, "/").expect_err("no worker is there").to_string();
    assert!(words.contains("503 Service Unavailable"), "{words}");
    fixture.home.ok("restart it");
    fixture.online(2);
    fixture.shared_by(2);
}

#[test]
fn a_stopped_app_releases_its_port() {
    let Some(fixture) = fixture("-i 2") else { return };
    fixture.home.ok("stop 0");
    assert_eq!(fixture.spread(10).len(), 1);
    fixture.home.ok("stop it");
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", fixture.port)).is_ok());
    fixture.home.ok("start it");
    assert_eq!(fixture.spread(20).len(), 2);
}

#[test]
fn workers_can_share_one_queue() {
    let Some(fixture) = fixture("-i 3 --share queue") else { return };
    fixture.home.ok("describe it").says("one queue for all");
    let mut loads = fixture.loads();
    for load in &mut loads.0 {
        load.until("several serve", |stats| stats.by.len() > 1);
    }
    fixture.home.ok("scale it 1");
    loads.are_served();
    for stats in loads.stop() {
        assert!(stats.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{stats:?}");
    }
}

#[test]
fn event_loops_with_one_queue_survive_a_reload() {
    let words = format!("{} --interpreter {PYTHON} -i 3 --share queue", app("share/loop.py"));
    let Some(fixture) = there(PYTHON).then(|| Fixture::new(&words)).flatten() else { return };
    let mut loads = fixture.loads();
    fixture.home.ok("reload it");
    loads.are_served();
    for stats in loads.stop() {
        assert!(stats.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{stats:?}");
    }
}
