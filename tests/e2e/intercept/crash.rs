//! The daemon is killed: clients are served on, and the next God answers pending calls of workers.

use nix::sys::signal::Signal;

use super::{Fixture, PYTHON, there};
use crate::crash::kill_god;
use crate::crash::kill_points::{arm, fatal_points};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::inventory::processes_match_list;
use crate::support::listing::{Row, pids};
use crate::support::{app, processes};

fn fixture() -> Option<Fixture> {
    there(PYTHON).then(|| Fixture::new(&format!("{} --interpreter {PYTHON} -i 2", app("share/threads.py"))))?
}

#[test]
fn killed_gods_lose_no_request() {
    let Some(fixture) = fixture() else { return };
    let mut loads = fixture.loads();
    let before = pids(&fixture.online(2));
    for _ in 0..3 {
        kill_god(&fixture.home);
        loads.are_served();
    }
    assert_eq!(pids(&fixture.online(2)), before);
    fixture.home.ok("reload it");
    fixture.home.ok("scale it 3");
    fixture.online(3);
    loads.are_served();
    assert_eq!(fixture.spread(60).len(), 3);
    loads.leave_content();
    processes_match_list(&fixture.home);
}

#[test]
fn a_god_killed_while_a_worker_drains_loses_no_request() {
    let Some(fixture) = fixture() else { return };
    let loads = fixture.loads();
    let before = pids(&fixture.online(2));
    let reload = fixture.home.pmr(["reload", "it"]).spawn();
    // The list has the successor as soon as it is ready. Its predecessor begins to drain at that moment.
    fixture.home.when("it", "a successor", |rows| rows.iter().any(|row| !before.contains(&row.pid)));
    kill_god(&fixture.home);
    reload.wait(WAIT_LIMIT);
    fixture.home.replaced("it", &before);
    loads.leave_content();
    processes_match_list(&fixture.home);
}

/// God dies at this kill point while a worker starts, and that worker shares the port nevertheless.
fn dies_once(point: &str, actions: &str) {
    fixture().iter().for_each(|fixture| dies_once_in(fixture, point, actions));
}

/// The same in this fixture, which has two workers.
pub(super) fn dies_once_in(fixture: &Fixture, point: &str, actions: &str) {
    let mut loads = fixture.loads();
    arm(&fixture.home, &format!("{point}={actions}"));
    fixture.home.run("scale it 3");
    fixture.home.when("it", "three that are ready", |rows| rows.len() == 3 && rows.iter().all(Row::online));
    assert_eq!(fatal_points(&fixture.home), [point]);
    assert_eq!(fixture.spread(60).len(), 3);
    fixture.home.ok("reload it");
    fixture.home.ok("scale it 1");
    loads.are_served();
    assert_eq!(fixture.spread(10).len(), 1);
    loads.leave_content();
    processes_match_list(&fixture.home);
}

macro_rules! points {
    ($($name:ident: $point:literal $actions:literal,)*) => { $(
        #[test]
        fn $name() {
            dies_once($point, $actions);
        }
    )* };
}

points! {
    god_dies_after_it_spawned_a_worker: "spawned" "return",
    god_dies_before_it_keeps_a_bind_watch: "watch-taken" "return",
    god_dies_before_it_records_a_bind_call: "bind-received" "return",
    god_dies_before_it_records_a_listen_call: "bind-received" "1*off->return",
    god_dies_after_it_recorded_a_bind: "bind-noted" "return",
    god_dies_after_it_recorded_a_listen: "bind-noted" "1*off->return",
    god_dies_after_it_executed_a_bind: "bind-done" "return",
    god_dies_after_it_executed_a_listen: "bind-done" "1*off->return",
    god_dies_after_it_decided_a_bind: "bind-decided" "return",
    god_dies_after_it_decided_a_listen: "bind-decided" "1*off->return",
    god_dies_after_it_answered_a_bind: "bind-answered" "return",
    god_dies_after_it_answered_a_listen: "bind-answered" "1*off->return",
}

#[test]
fn a_worker_that_binds_without_a_god_shares_the_port() {
    let Some(fixture) = fixture() else { return };
    let loads = fixture.loads();
    processes::freeze(fixture.home.god_pid());
    let victim = fixture.spread(10).into_keys().next().expect("a worker answers");
    processes::signal(victim, Signal::SIGTERM);
    until("it has ended", || !processes::lives(victim));
    kill_god(&fixture.home);
    fixture.home.replaced("it", &[victim]);
    assert_eq!(fixture.spread(40).len(), 2);
    assert!(loads.stop().iter().all(|stats| stats.failed.iter().all(|failed| failed.how != "hung")));
}
