//! An operation belongs to the daemon: a command that is interrupted, frozen or killed does not cut it.

use nix::sys::signal::Signal;

use crate::reload::serving;
use crate::support::eventually::PATIENCE;
use crate::support::listing::{Row, pids};
use crate::support::pmr::Running;
use crate::support::{Home, app};

/// A reload under way, whose first successor has begun.
fn reloading() -> (Home, Vec<Row>, Running) {
    let (home, _) = serving("");
    let before = home.of("gate");
    home.write("release", "slow");
    let command = home.pmr(["reload", "gate"]).spawn();
    home.logged("gate-out.log", "boot slow");
    (home, before, command)
}

/// What has begun may end.
fn completes(home: &Home, before: &[Row]) {
    home.write("go", "");
    let after = home.replaced("gate", &pids(before));
    assert_eq!(after.iter().map(|row| row.restarts).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_reload() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGINT);
    command
        .wait(PATIENCE)
        .code(130)
        .complains("interrupted: the daemon goes on with `reload`, only this command has ended");
    completes(&home, &before);
}

#[test]
fn a_killed_command_leaves_the_reload_to_the_daemon() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGKILL);
    completes(&home, &before);
}

#[test]
fn a_frozen_command_holds_up_nobody() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGSTOP);
    home.ok(&format!("start {}", app("tell.sh")));
    completes(&home, &before);
    command.signal(Signal::SIGCONT);
    command.wait(PATIENCE).ok().says("[gate](0) ✓");
}

#[test]
fn a_hung_app_delays_no_other() {
    let home = Home::new();
    home.write("deaf.sh", "trap '' INT\necho deaf\nexec sleep 1000\n");
    home.ok("start deaf.sh -k 60s");
    home.logged("deaf-out.log", "deaf");
    let stop = home.pmr(["stop", "deaf"]).spawn();
    home.status("deaf", "stopping");
    let started = home.ok(&format!("start {}", app("tell.sh")));
    assert!(started.took < PATIENCE / 2, "{:?}", started.took);
    home.ok("restart tell");
    home.ok("delete tell");
    crate::support::processes::signal(home.one("deaf").pid, Signal::SIGKILL);
    stop.wait(PATIENCE).ok();
}
