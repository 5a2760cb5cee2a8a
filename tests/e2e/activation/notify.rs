//! Notifications that programs send to `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;

use super::serving;
use crate::crash::kill_god;
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::{Home, http, processes};

/// The notify socket of the home's only run.
fn socket(home: &Home) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(home.root().join("notify")).unwrap();
    let path = entries.next().expect("a socket").unwrap().path();
    assert!(entries.next().is_none(), "one run has one socket");
    path
}

#[test]
fn a_shell_script_can_signal_readiness() {
    if !Path::new("/usr/bin/systemd-notify").exists() {
        return;
    }
    let home = Home::new();
    let line = "until test -e go; do sleep 0.02; done; systemd-notify --ready --status='open for business'; sleep 1000";
    home.write("app.sh", line);
    let start = home.pmr(["start", "app.sh", "-n", "a", "--wait-ready", "--listen-timeout", "100s"]).spawn();
    home.status("a", "launching");
    home.write("go", "");
    start.wait(WAIT_LIMIT).ok();
    home.ok("describe a").says("open for business");
    home.ok("delete a");
    until("the socket goes with the run", || std::fs::read_dir(home.root().join("notify")).unwrap().next().is_none());
}

#[test]
fn a_notification_of_a_foreign_process_is_refused() {
    let home = Home::new();
    home.write("app.sh", "sleep 1000");
    home.run("start app.sh -n a --wait-ready --listen-timeout 200ms").code(1);
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.connect(socket(&home)).unwrap();
    stranger.send(b"READY=1\nSTATUS=never mind").unwrap();
    until("it is refused", || {
        std::fs::read_to_string(home.root().join("pmr.log")).unwrap().contains("does not belong to it")
    });
    assert_eq!(home.one("a").status, "launching");
}

#[test]
fn a_process_that_misses_its_watchdog_is_restarted_with_the_reason() {
    let (home, port) = serving("--wait-ready --watchdog 8s --max-restarts 100 --kill-timeout 100ms");
    let before = home.one("a").pid;
    processes::signal(before, Signal::SIGSTOP);
    let rows = home.when("a", "another runs", |rows| rows[0].online() && rows[0].pid != before);
    assert_eq!(rows[0].restarts, 1);
    home.daemon_logged("has not reported for 8000 ms that it is alive");
    assert_eq!(http::get(port, "/").unwrap(), rows[0].pid.to_string());
}

#[test]
fn a_notification_sent_without_a_god_reaches_the_next_one() {
    let (home, _) = serving("--wait-ready --watchdog 30s");
    let before = home.one("a").pid;
    for _ in 0..2 {
        kill_god(&home);
    }
    let god = home.god_pid();
    assert_eq!((home.one("a").pid, home.one("a").restarts), (before, 0));
    home.ok("describe a").says("serving as");
    assert_eq!(home.god_pid(), god);
}

#[test]
fn another_process_of_the_tree_can_become_the_main_process() {
    if !Path::new("/usr/bin/systemd-notify").exists() {
        return;
    }
    let home = Home::new();
    home.write(
        "app.sh",
        "sleep 1000 & systemd-notify --ready \"MAINPID=$!\"; echo told; until test -e go; do sleep 0.02; done",
    );
    home.ok("start app.sh -n a --wait-ready --listen-timeout 100s");
    let first = home.when("a", "its child stands for it", |rows| processes::command_line(rows[0].pid) == "sleep 1000");
    let parent = processes::parent_of(first[0].pid).expect("it waits for its word");
    home.write("go", "");
    until("the first process has ended and is buried", || processes::state(parent).is_none());
    home.sync();
    assert!(home.children().contains(&first[0].pid));
    assert_eq!((home.one("a").pid, home.one("a").restarts), (first[0].pid, 0));
    processes::signal(first[0].pid, Signal::SIGKILL);
    home.when("a", "started again", |rows| rows[0].restarts == 1 && rows[0].pid != first[0].pid);
}
