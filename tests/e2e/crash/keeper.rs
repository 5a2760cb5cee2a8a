//! SIGKILL of the keeper, and of keeper and God together.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::{Fixture, answers, changes, facts, is_unchanged, kill_god};
use crate::support::eventually::until;
use crate::support::inventory::processes_match_list;
use crate::support::pmr::{self, Pmr};
use crate::support::{Home, app, copy_program, eventually, http, processes};

/// Kills the keeper, and waits until God has become the keeper and the daemon answers.
pub fn kill_keeper(home: &Home) {
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    processes::signal(keeper, Signal::SIGKILL);
    until("God becomes the keeper", || home.daemon_pid() == god);
    answers(home);
}

/// Kills both. They are suspended first, so that neither can replace the other.
pub fn kill_both(home: &Home) {
    let both = [home.god_pid(), home.daemon_pid()];
    both.iter().for_each(|pid| processes::freeze(*pid));
    both.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
    until("both are dead", || both.iter().all(|pid| !processes::lives(*pid)));
}

#[test]
fn killed_keepers_go_unnoticed() {
    let fixture = Fixture::new();
    let mut loads = fixture.loads();
    let before = fixture.facts();
    for _ in 0..3 {
        kill_keeper(&fixture.home);
        fixture.logs_go_on();
        loads.are_served();
        fixture.kill_god();
        fixture.logs_go_on();
        loads.are_served();
    }
    loads.leave_content();
    is_unchanged(&fixture.home, &before);
}

#[test]
fn a_new_keeper_supervises_old_and_new_apps() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.ok(&format!("start {} -n {name}", app("tell.sh")));
    }
    home.ok(&format!("start {}", app("forest.sh")));
    home.logged("forest-out.log", "grown");
    kill_keeper(&home);
    // A process that the dead keeper started.
    let orphan = home.one("a").pid;
    processes::signal(orphan, Signal::SIGKILL);
    assert_eq!(home.replaced("a", &[orphan])[0].restarts, 1);
    let untouched = home.one("c").pid;
    home.ok("restart b");
    assert_eq!((home.one("b").restarts, home.one("b").id), (1, 1));
    home.ok(&format!("start {} -n d", app("tell.sh")));
    let child = home.one("d").pid;
    assert!(processes::children(home.daemon_pid()).contains(&child));
    processes::signal(child, Signal::SIGKILL);
    assert_eq!(home.replaced("d", &[child])[0].restarts, 1);
    assert_eq!((home.one("c").pid, home.one("c").restarts, home.one("d").id), (untouched, 0, 4));
    let forest = eventually("the forest has grown", || {
        let forest = processes::of_home(home.root()).into_iter();
        let forest: Vec<i32> = forest.filter(|pid| is_of_forest(*pid)).collect();
        if forest.len() >= 5 { Ok(forest) } else { Err(format!("{forest:?}")) }
    });
    home.ok("delete forest");
    until("its whole tree is gone", || forest.iter().all(|pid| !is_of_forest(*pid)));
    kill_god(&home);
    kill_keeper(&home);
    assert_eq!(home.list().iter().map(|row| row.restarts).collect::<Vec<_>>(), [1, 1, 0, 1]);
}

#[test]
fn the_process_tree_of_an_orphan_is_cleaned_up() {
    let home = Home::new();
    home.ok(&format!("start {}", app("forest.sh")));
    home.logged("forest-out.log", "grown");
    kill_keeper(&home);
    let (god, pid) = (home.god_pid(), home.one("forest").pid);
    processes::freeze(god);
    processes::signal(pid, Signal::SIGKILL);
    until("it is dead", || !processes::lives(pid));
    processes::signal(god, Signal::SIGKILL);
    home.replaced("forest", &[pid]);
    processes_match_list(&home);
}

fn is_of_forest(pid: i32) -> bool {
    let line = processes::command_line(pid);
    processes::lives(pid) && line.starts_with("sleep 100") && line != "sleep 1000"
}

#[test]
fn an_app_that_dies_with_the_keeper_is_restarted() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    let pid = home.one("a").pid;
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    processes::freeze(keeper);
    processes::signal(pid, Signal::SIGKILL);
    processes::signal(keeper, Signal::SIGKILL);
    until("God becomes the keeper", || home.daemon_pid() == god);
    assert_eq!(home.replaced("a", &[pid])[0].restarts, 1);
}

#[test]
fn a_suspended_god_becomes_the_keeper_when_it_continues() {
    let fixture = Fixture::new();
    let before = fixture.facts();
    let (keeper, god) = (fixture.home.daemon_pid(), fixture.home.god_pid());
    processes::freeze(god);
    processes::signal(keeper, Signal::SIGKILL);
    until("the keeper is dead", || !processes::lives(keeper));
    processes::signal(god, Signal::SIGCONT);
    until("God becomes the keeper", || fixture.home.daemon_pid() == god);
    answers(&fixture.home);
    is_unchanged(&fixture.home, &before);
    fixture.logs_go_on();
    assert!(http::get(fixture.port, "/").is_ok());
}

#[test]
fn no_app_is_started_twice_after_god_and_keeper_died() {
    let home = Home::new();
    for name in ["a", "b"] {
        home.ok(&format!("start {} -n {name}", app("tell.sh")));
    }
    let before = facts(&home);
    kill_both(&home);
    home.ok(&format!("start {} -n c", app("tell.sh")));
    eventually("no program runs twice, and all are known", || {
        let sleeping = processes::of_home(home.root());
        let sleeping = sleeping.into_iter().filter(|pid| processes::command_line(*pid) == "sleep 1000").count();
        let rows = home.list();
        if sleeping == 3 && rows.len() == 3 { Ok(()) } else { Err(format!("{sleeping} run; {rows:?}")) }
    });
    eventually("all is as it was", || {
        let known = facts(&home).into_iter().filter(|(key, _)| before.contains_key(key)).collect();
        changes(&before, &known)
    });
}

#[test]
fn a_god_without_a_new_keeper_goes_on_alone() {
    let home = Home::new();
    let program = home.work().join("own");
    copy_program(&pmr::binary(), &program);
    let words = ["start", &app("tell.sh"), "-n", "tell"].map(Into::into).to_vec();
    Pmr::new(&program, home.root(), home.work(), words).run().ok();
    let (keeper, god, first) = (home.daemon_pid(), home.god_pid(), home.one("tell").pid);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o000)).expect("it is ours");
    processes::signal(keeper, Signal::SIGKILL);
    home.daemon_logged("no new keeper could be made");
    for _ in 0..3 {
        assert_eq!(home.one("tell").pid, first);
    }
    assert!(processes::lives(god));
    home.ok("restart tell");
    let again = home.one("tell").pid;
    assert_ne!(again, first);
    processes::signal(again, Signal::SIGKILL);
    let last = home.replaced("tell", &[again])[0].pid;
    home.ok("kill");
    until("all have ended", || [god, first, again, last].into_iter().all(|pid| !processes::lives(pid)));
}
