//! Health checks where the kernel distributes connections: each worker is checked itself, and one that fails never
//! serves.

use super::socket::{NOBODY, Socket};
use super::{Fixture, Loads, PYTHON};
use crate::crash::kill_god;
use crate::health::rotation::Pair;
use crate::load::LoadStats;
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::inventory::processes_match_list;
use crate::support::listing::pids;
use crate::support::{Home, app, http};

/// Health settings: a slow answer is a failure.
const SHORT_TIMEOUT: &str = r#", "timeout": "1s""#;
/// Health settings: a failure has no consequence, and a busy machine causes none.
const NO_ACTION: &str = r#", "on_fail": "none", "timeout": "20s""#;

/// Two healthy workers and their load. For an ordinary user the balancer is another one.
fn checked(socket: Socket, user: Option<u32>) -> Option<(Fixture, Loads<2>)> {
    let fixture = fixture(socket, user, SHORT_TIMEOUT)?;
    let loads = fixture.loads();
    Some((fixture, loads))
}

fn fixture(socket: Socket, user: Option<u32>, health: &str) -> Option<Fixture> {
    let fixture = Fixture { home: socket.home(user)?, port: http::free_port() };
    fixture.home.write("health.py", &std::fs::read_to_string(app("share/health.py")).unwrap());
    fixture.home.write("sick/nobody", "");
    config(&fixture, socket, "good", health);
    fixture.home.ok("start it.json");
    Some(fixture)
}

fn release(fixture: &Fixture, socket: Socket, release: &str) {
    config(fixture, socket, release, SHORT_TIMEOUT);
}

fn config(fixture: &Fixture, socket: Socket, release: &str, health: &str) {
    let listen = socket.config(fixture.port);
    // A short timeout is for sick releases only: a good one may be slow on a busy machine.
    let patience = if release == "sick" { "10s" } else { "100s" };
    let (work, port) = (fixture.home.work().display(), fixture.port);
    let text = format!(
        r#"{{ "apps": [{{ "name": "it", "script": "{work}/health.py", "interpreter": "{PYTHON}", "instances": 2, {listen}
            "merge_logs": true, "listen_timeout": "{patience}", "drain_timeout": "100s", "exec_mode": "cluster",
            "health": {{ "http": "/healthz", "interval": "100ms", "timeout": "1m", "retries": 2{health} }},
            "env": {{ "PORT": "{port}", "RELEASE": "{release}", "SICK": "{work}/sick" }} }}] }}"#
    );
    fixture.home.write("it.json", &text);
}

/// Asserts that each request was answered by one of these processes.
#[track_caller]
fn only(all_stats: &[LoadStats], pids: &[i32]) {
    for stats in all_stats {
        assert!(stats.failed.is_empty(), "of {} requests failed {:?}", stats.answered, stats.failed);
        assert!(stats.by.keys().all(|pid| pids.contains(pid)), "{:?} besides {pids:?}", stats.by);
    }
}

fn keeps_a_sick_release_out(socket: Socket, user: Option<u32>) {
    let Some((fixture, loads)) = checked(socket, user) else { return };
    let before = pids(&fixture.online(2));
    release(&fixture, socket, "sick");
    fixture
        .home
        .run("reload it.json")
        .code(1)
        .complains("status 500; the old process goes on serving")
        .complains("this release is sick");
    assert_eq!(pids(&fixture.online(2)), before);
    only(&loads.stop(), &before);
    // A good release serves.
    release(&fixture, socket, "good");
    let loads = fixture.loads();
    fixture.home.ok("reload it.json");
    assert!(pids(&fixture.online(2)).iter().all(|pid| !before.contains(pid)));
    assert_eq!(fixture.spread(60).len(), 2);
    loads.leave_content();
}

fn replaces_the_sick_worker(socket: Socket, user: Option<u32>) {
    let Some((fixture, loads)) = checked(socket, user) else { return };
    for at in [1, 0] {
        let before = pids(&fixture.online(2));
        fixture.home.write(&format!("sick/{}", before[at]), "");
        let after = pids(&fixture.home.replaced("it", &[before[at]]));
        assert!(after.contains(&before[1 - at]), "the other is not touched");
    }
    assert_eq!(fixture.spread(60).len(), 2);
    loads.leave_content();
}

fn keeps_a_sick_release_out_across_a_crash(socket: Socket, user: Option<u32>) {
    let Some((fixture, loads)) = checked(socket, user) else { return };
    let before = pids(&fixture.online(2));
    release(&fixture, socket, "sick");
    let reload = fixture.home.pmr(["reload", "it.json"]).spawn();
    let errors = fixture.home.root().join("logs/it-error.log");
    let is_tried = || std::fs::read_to_string(&errors).is_ok_and(|text| text.contains("this release is sick"));
    until("a successor is there", is_tried);
    for _ in 0..3 {
        kill_god(&fixture.home);
    }
    reload.wait(WAIT_LIMIT);
    // The list shows the old workers during the trial as well. The reload is over when no other worker process is left.
    processes_match_list(&fixture.home);
    assert_eq!(pids(&fixture.online(2)), before);
    only(&loads.stop(), &before);
}

#[test]
fn a_sick_release_that_binds_never_serves() {
    keeps_a_sick_release_out(Socket::Bound, None);
}

#[test]
fn a_sick_release_of_an_ordinary_user_that_binds_never_serves() {
    keeps_a_sick_release_out(Socket::Bound, Some(NOBODY));
}

#[test]
fn a_sick_activated_release_never_serves() {
    keeps_a_sick_release_out(Socket::Given, None);
}

#[test]
fn a_sick_activated_release_of_an_ordinary_user_never_serves() {
    keeps_a_sick_release_out(Socket::Given, Some(NOBODY));
}

#[test]
fn an_unhealthy_worker_is_replaced_and_no_other() {
    replaces_the_sick_worker(Socket::Bound, None);
    replaces_the_sick_worker(Socket::Given, Some(NOBODY));
}

fn ejects_the_unhealthy_worker(socket: Socket, user: Option<u32>) {
    if let Some(fixture) = fixture(socket, user, NO_ACTION) {
        Pair { home: &fixture.home, port: fixture.port }.run_ejection_scenario();
    }
}

#[test]
fn an_unhealthy_worker_is_ejected_while_another_is_healthy() {
    ejects_the_unhealthy_worker(Socket::Bound, None);
    ejects_the_unhealthy_worker(Socket::Given, None);
}

#[test]
fn an_unhealthy_worker_of_an_ordinary_user_is_ejected() {
    ejects_the_unhealthy_worker(Socket::Bound, Some(NOBODY));
}

#[test]
fn a_sick_release_never_serves_when_god_dies_meanwhile() {
    keeps_a_sick_release_out_across_a_crash(Socket::Bound, None);
    keeps_a_sick_release_out_across_a_crash(Socket::Bound, Some(NOBODY));
    keeps_a_sick_release_out_across_a_crash(Socket::Given, None);
}

#[test]
fn a_health_check_by_path_is_refused_with_one_queue() {
    let home = Home::new();
    let script = app("share/health.py");
    home.run(&format!("start {script} --interpreter {PYTHON} -i 2 --share queue --health /healthz"))
        .refuses("a path alone");
}
