//! The daemon is killed: clients go on, and who asks it something is answered by the next.

use nix::sys::signal::Signal;

use super::{PYTHON, Town, there};
use crate::crash::kill_god;
use crate::crash::points::{arm, fatal_points};
use crate::support::eventually::{PATIENCE, until};
use crate::support::listing::{Row, pids};
use crate::support::order::in_order;
use crate::support::{app, processes};

fn town() -> Option<Town> {
    there(PYTHON).then(|| Town::new(&format!("{} --interpreter {PYTHON} -i 2", app("share/threads.py"))))?
}

#[test]
fn under_load() {
    let Some(town) = town() else { return };
    let mut loads = town.loads();
    let before = pids(&town.online(2));
    for _ in 0..3 {
        kill_god(&town.home);
        loads.are_served();
    }
    assert_eq!(pids(&town.online(2)), before);
    town.home.ok("reload it");
    town.home.ok("scale it 3");
    town.online(3);
    loads.are_served();
    assert_eq!(town.spread(60).len(), 3);
    loads.leave_content();
    in_order(&town.home);
}

#[test]
fn while_a_worker_drains() {
    let Some(town) = town() else { return };
    let loads = town.loads();
    let before = pids(&town.online(2));
    let reload = town.home.pmr(["reload", "it"]).spawn();
    // It is listed from the moment at which it is ready, and who it replaces begins to drain.
    town.home.when("it", "a successor", |rows| rows.iter().any(|row| !before.contains(&row.pid)));
    kill_god(&town.home);
    reload.wait(PATIENCE);
    town.home.replaced("it", &before);
    loads.leave_content();
    in_order(&town.home);
}

/// Dies at this point while a worker comes, and that worker shares the port all the same.
fn once(point: &str, actions: &str) {
    town().iter().for_each(|town| once_in(town, point, actions));
}

/// The same in this town, which has two workers.
pub(super) fn once_in(town: &Town, point: &str, actions: &str) {
    let mut loads = town.loads();
    arm(&town.home, &format!("{point}={actions}"));
    town.home.run("scale it 3");
    town.home.when("it", "three that are ready", |rows| rows.len() == 3 && rows.iter().all(Row::online));
    assert_eq!(fatal_points(&town.home), [point]);
    assert_eq!(town.spread(60).len(), 3);
    town.home.ok("reload it");
    town.home.ok("scale it 1");
    loads.are_served();
    assert_eq!(town.spread(10).len(), 1);
    loads.leave_content();
    in_order(&town.home);
}

macro_rules! points {
    ($($name:ident: $point:literal $actions:literal,)*) => { $(
        #[test]
        fn $name() {
            once($point, $actions);
        }
    )* };
}

points! {
    a_worker_just_started: "spawned" "return",
    a_watch_taken_and_not_kept: "watch-taken" "return",
    its_first_call_heard_and_not_noted: "bind-received" "return",
    its_second_call_heard_and_not_noted: "bind-received" "1*off->return",
    a_bind_noted: "bind-noted" "return",
    a_listen_noted: "bind-noted" "1*off->return",
    a_bind_done: "bind-done" "return",
    a_listen_done: "bind-done" "1*off->return",
    a_bind_decided: "bind-decided" "return",
    a_listen_decided: "bind-decided" "1*off->return",
    a_bind_answered: "bind-answered" "return",
    a_listen_answered: "bind-answered" "1*off->return",
}

#[test]
fn while_a_worker_is_about_to_ask() {
    let Some(town) = town() else { return };
    let loads = town.loads();
    processes::freeze(town.home.god_pid());
    let victim = town.spread(10).into_keys().next().expect("somebody");
    processes::signal(victim, Signal::SIGTERM);
    until("it has ended", || !processes::lives(victim));
    kill_god(&town.home);
    town.home.replaced("it", &[victim]);
    assert_eq!(town.spread(40).len(), 2);
    assert!(loads.stop().iter().all(|tally| tally.failed.iter().all(|failed| failed.how != "hung")));
}
