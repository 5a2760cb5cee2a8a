//! Operations belong to the daemon: a command that is interrupted, suspended or killed does not end its operation.

use nix::sys::signal::Signal;

use crate::reload::serving;
use crate::support::eventually::WAIT_LIMIT;
use crate::support::listing::{Row, pids};
use crate::support::pmr::Running;
use crate::support::{Home, app};

/// Starts a reload, and waits until its first successor has started.
fn reloading() -> (Home, Vec<Row>, Running) {
    let (home, _) = serving("");
    let before = home.of("gate");
    home.write("release", "slow");
    let command = home.pmr(["reload", "gate"]).spawn();
    home.logged("gate-out.log", "boot slow");
    (home, before, command)
}

/// Lets the reload complete, and waits for the new workers.
fn reload_completes(home: &Home, before: &[Row]) {
    home.write("go", "");
    let after = home.replaced("gate", &pids(before));
    assert_eq!(after.iter().map(|row| row.restarts).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn an_interrupted_command_leaves_the_reload_to_the_daemon() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGINT);
    command
        .wait(WAIT_LIMIT)
        .code(130)
        .complains("interrupted: the daemon continues the `reload`, only this command has ended");
    reload_completes(&home, &before);
}

#[test]
fn a_killed_command_leaves_the_reload_to_the_daemon() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGKILL);
    reload_completes(&home, &before);
}

#[test]
fn a_suspended_command_blocks_nobody() {
    let (home, before, command) = reloading();
    command.signal(Signal::SIGSTOP);
    home.ok(&format!("start {}", app("tell.sh")));
    reload_completes(&home, &before);
    command.signal(Signal::SIGCONT);
    command.wait(WAIT_LIMIT).ok().says("[gate](0) ✓");
}

#[test]
fn an_app_that_ignores_its_stop_delays_no_other() {
    let home = Home::new();
    home.write("deaf.sh", "trap '' INT\necho deaf\nexec sleep 1000\n");
    home.ok("start deaf.sh -k 60s");
    home.logged("deaf-out.log", "deaf");
    let stop = home.pmr(["stop", "deaf"]).spawn();
    home.status("deaf", "stopping");
    let started = home.ok(&format!("start {}", app("tell.sh")));
    assert!(started.took < WAIT_LIMIT / 2, "{:?}", started.took);
    home.ok("restart tell");
    home.ok("delete tell");
    crate::support::processes::signal(home.one("deaf").pid, Signal::SIGKILL);
    stop.wait(WAIT_LIMIT).ok();
}
