//! Workers come and go while clients are served.

use nix::sys::signal::Signal;

use super::{CLIENTS, PYTHON, Town, there};
use crate::support::eventually::until;
use crate::support::{app, http, processes};

fn town(words: &str) -> Option<Town> {
    let script = app("share/threads.py");
    there(PYTHON).then(|| Town::new(&format!("{script} --interpreter {PYTHON} {words}")))?
}

#[test]
fn scaled_up_and_down_under_load() {
    let Some(town) = town("-i 2") else { return };
    let mut loads = town.loads();
    town.home.ok("scale it 4");
    town.online(4);
    assert_eq!(town.spread(60).len(), 4);
    town.home.ok("scale it 2");
    town.online(2);
    loads.are_served();
    assert_eq!(town.spread(40).len(), 2);
    loads.leave_content();
}

#[test]
fn a_worker_is_killed_and_only_its_requests_fail() {
    let Some(town) = town("-i 2") else { return };
    let mut loads = town.loads();
    for _ in 0..3 {
        let before = town.online(2);
        processes::signal(before[0].pid, Signal::SIGKILL);
        town.home.replaced("it", &[before[0].pid]);
        loads.are_served();
    }
    for tally in loads.stop() {
        let hows: Vec<&str> = tally.failed.iter().map(|failed| failed.how.as_str()).collect();
        assert!(hows.len() <= 3 * CLIENTS && !hows.contains(&"refused") && !hows.contains(&"hung"), "{tally:?}");
    }
}

#[test]
fn the_only_worker_is_restarted_and_clients_wait() {
    let Some(town) = town("-i 1") else { return };
    let mut loads = town.loads();
    for _ in 0..3 {
        town.home.ok("restart it");
        loads.are_served();
    }
    let [new, few] = loads.stop();
    for tally in [&new, &few] {
        assert!(tally.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{tally:?}");
    }
}

#[test]
fn who_waits_too_long_for_an_app_that_crashed_is_turned_away() {
    let Some(town) = town("-i 2 --queue-timeout 200ms --restart-delay 1h") else { return };
    let before = town.online(2);
    before.iter().for_each(|row| processes::signal(row.pid, Signal::SIGKILL));
    town.home.when("it", "waiting", |rows| rows.iter().all(|row| row.status == "waiting restart"));
    let words = http::get(town.port, "/").expect_err("nobody is there").to_string();
    assert!(words.contains("503 Service Unavailable"), "{words}");
    town.home.ok("restart it");
    town.online(2);
    town.shared_by(2);
}

#[test]
fn an_app_that_is_stopped_gives_its_port_back() {
    let Some(town) = town("-i 2") else { return };
    town.home.ok("stop 0");
    assert_eq!(town.spread(10).len(), 1);
    town.home.ok("stop it");
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", town.port)).is_ok());
    town.home.ok("start it");
    assert_eq!(town.spread(20).len(), 2);
}

#[test]
fn one_queue_for_all() {
    let Some(town) = town("-i 3 --share queue") else { return };
    town.home.ok("describe it").says("one queue for all");
    let mut loads = town.loads();
    for load in &mut loads.0 {
        load.until("several serve", |tally| tally.by.len() > 1);
    }
    town.home.ok("scale it 1");
    loads.are_served();
    for tally in loads.stop() {
        assert!(tally.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{tally:?}");
    }
}

#[test]
fn event_loops_with_one_queue_go_on_when_another_begins() {
    let words = format!("{} --interpreter {PYTHON} -i 3 --share queue", app("share/loop.py"));
    let Some(town) = there(PYTHON).then(|| Town::new(&words)).flatten() else { return };
    let mut loads = town.loads();
    town.home.ok("reload it");
    loads.are_served();
    for tally in loads.stop() {
        assert!(tally.failed.iter().all(|failed| failed.how != "refused" && failed.how != "hung"), "{tally:?}");
    }
}
