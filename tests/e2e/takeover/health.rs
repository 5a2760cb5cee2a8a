//! Health where the kernel deals connections out: each worker is asked itself, and one that fails never serves.

use super::socket::{NOBODY, Socket};
use super::{Loads, PYTHON, Town};
use crate::crash::kill_god;
use crate::health::rotation::Pair;
use crate::load::Tally;
use crate::support::eventually::{PATIENCE, until};
use crate::support::listing::pids;
use crate::support::order::in_order;
use crate::support::{Home, app, http};

/// Of the check: who takes long fails.
const PROMPT: &str = r#", "timeout": "1s""#;
/// Nothing comes of a failure, and a busy machine makes none.
const LEFT_ALONE: &str = r#", "on_fail": "none", "timeout": "20s""#;

/// Two workers that are well, and their clients. As an ordinary user, there is another balancer.
fn checked(socket: Socket, user: Option<u32>) -> Option<(Town, Loads<2>)> {
    let town = town(socket, user, PROMPT)?;
    let loads = town.loads();
    Some((town, loads))
}

fn town(socket: Socket, user: Option<u32>, health: &str) -> Option<Town> {
    let town = Town { home: socket.home(user)?, port: http::free_port() };
    town.home.write("health.py", &std::fs::read_to_string(app("share/health.py")).unwrap());
    town.home.write("sick/nobody", "");
    config(&town, socket, "good", health);
    town.home.ok("start it.json");
    Some(town)
}

fn release(town: &Town, socket: Socket, release: &str) {
    config(town, socket, release, PROMPT);
}

fn config(town: &Town, socket: Socket, release: &str, health: &str) {
    let listen = socket.config(town.port);
    // Only one that is sick is to be given up soon.
    let patience = if release == "sick" { "10s" } else { "100s" };
    let (work, port) = (town.home.work().display(), town.port);
    let text = format!(
        r#"{{ "apps": [{{ "name": "it", "script": "{work}/health.py", "interpreter": "{PYTHON}", "instances": 2, {listen}
            "merge_logs": true, "listen_timeout": "{patience}", "drain_timeout": "100s", "exec_mode": "cluster",
            "health": {{ "http": "/healthz", "interval": "100ms", "timeout": "1m", "retries": 2{health} }},
            "env": {{ "PORT": "{port}", "RELEASE": "{release}", "SICK": "{work}/sick" }} }}] }}"#
    );
    town.home.write("it.json", &text);
}

/// Each request was answered, by one of these.
#[track_caller]
fn only(tallies: &[Tally], pids: &[i32]) {
    for tally in tallies {
        assert!(tally.failed.is_empty(), "of {} requests failed {:?}", tally.answered, tally.failed);
        assert!(tally.by.keys().all(|pid| pids.contains(pid)), "{:?} besides {pids:?}", tally.by);
    }
}

fn a_sick_release_never_serves(socket: Socket, user: Option<u32>) {
    let Some((town, loads)) = checked(socket, user) else { return };
    let before = pids(&town.online(2));
    release(&town, socket, "sick");
    town.home
        .run("reload it.json")
        .code(1)
        .complains("status 500; the old process goes on serving")
        .complains("this release is sick");
    assert_eq!(pids(&town.online(2)), before);
    only(&loads.stop(), &before);
    // A good one does.
    release(&town, socket, "good");
    let loads = town.loads();
    town.home.ok("reload it.json");
    assert!(pids(&town.online(2)).iter().all(|pid| !before.contains(pid)));
    assert_eq!(town.spread(60).len(), 2);
    loads.leave_content();
}

fn the_sick_worker_is_replaced(socket: Socket, user: Option<u32>) {
    let Some((town, loads)) = checked(socket, user) else { return };
    for at in [1, 0] {
        let before = pids(&town.online(2));
        town.home.write(&format!("sick/{}", before[at]), "");
        let after = pids(&town.home.replaced("it", &[before[at]]));
        assert!(after.contains(&before[1 - at]), "the other is not touched");
    }
    assert_eq!(town.spread(60).len(), 2);
    loads.leave_content();
}

fn god_dies_while_a_sick_release_is_tried(socket: Socket, user: Option<u32>) {
    let Some((town, loads)) = checked(socket, user) else { return };
    let before = pids(&town.online(2));
    release(&town, socket, "sick");
    let reload = town.home.pmr(["reload", "it.json"]).spawn();
    let errors = town.home.root().join("logs/it-error.log");
    let is_tried = || std::fs::read_to_string(&errors).is_ok_and(|text| text.contains("this release is sick"));
    until("a successor is there", is_tried);
    for _ in 0..3 {
        kill_god(&town.home);
    }
    reload.wait(PATIENCE);
    // The old ones are listed as long as it is tried: it is over when nobody else is left.
    in_order(&town.home);
    assert_eq!(pids(&town.online(2)), before);
    only(&loads.stop(), &before);
}

#[test]
fn a_sick_release_that_binds_never_serves() {
    a_sick_release_never_serves(Socket::Bound, None);
}

#[test]
fn a_sick_release_that_binds_never_serves_as_an_ordinary_user() {
    a_sick_release_never_serves(Socket::Bound, Some(NOBODY));
}

#[test]
fn a_sick_release_that_is_given_its_socket_never_serves() {
    a_sick_release_never_serves(Socket::Given, None);
}

#[test]
fn a_sick_release_that_is_given_its_socket_never_serves_as_an_ordinary_user() {
    a_sick_release_never_serves(Socket::Given, Some(NOBODY));
}

#[test]
fn who_falls_ill_is_the_one_that_is_replaced() {
    the_sick_worker_is_replaced(Socket::Bound, None);
    the_sick_worker_is_replaced(Socket::Given, Some(NOBODY));
}

fn who_is_unhealthy_is_passed_over(socket: Socket, user: Option<u32>) {
    if let Some(town) = town(socket, user, LEFT_ALONE) {
        Pair { home: &town.home, port: town.port }.goes_through_illness();
    }
}

#[test]
fn who_is_unhealthy_gets_nothing_new_while_the_other_is_well() {
    who_is_unhealthy_is_passed_over(Socket::Bound, None);
    who_is_unhealthy_is_passed_over(Socket::Given, None);
}

#[test]
fn who_is_unhealthy_gets_nothing_new_as_an_ordinary_user_either() {
    who_is_unhealthy_is_passed_over(Socket::Bound, Some(NOBODY));
}

#[test]
fn nor_does_it_serve_if_god_dies_meanwhile() {
    god_dies_while_a_sick_release_is_tried(Socket::Bound, None);
    god_dies_while_a_sick_release_is_tried(Socket::Bound, Some(NOBODY));
    god_dies_while_a_sick_release_is_tried(Socket::Given, None);
}

#[test]
fn with_one_queue_for_all_a_path_alone_is_refused() {
    let home = Home::new();
    let script = app("share/health.py");
    home.run(&format!("start {script} --interpreter {PYTHON} -i 2 --share queue --health /healthz"))
        .refuses("a path alone");
}
