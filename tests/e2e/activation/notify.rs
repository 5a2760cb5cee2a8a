//! What programs say to `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;

use super::serving;
use crate::crash::kill_god;
use crate::support::eventually::{PATIENCE, until};
use crate::support::{Home, http, processes};

/// The notify socket of the home's only run.
fn socket(home: &Home) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(home.root().join("notify")).unwrap();
    let path = entries.next().expect("a socket").unwrap().path();
    assert!(entries.next().is_none(), "one run has one socket");
    path
}

#[test]
fn a_shell_script_says_that_it_is_ready() {
    if !Path::new("/usr/bin/systemd-notify").exists() {
        return;
    }
    let home = Home::new();
    let line = "until test -e go; do sleep 0.02; done; systemd-notify --ready --status='open for business'; sleep 1000";
    home.write("app.sh", line);
    let start = home.pmr(["start", "app.sh", "-n", "a", "--wait-ready", "--listen-timeout", "100s"]).spawn();
    home.status("a", "launching");
    home.write("go", "");
    start.wait(PATIENCE).ok();
    home.ok("describe a").says("open for business");
    home.ok("delete a");
    until("the socket goes with the run", || std::fs::read_dir(home.root().join("notify")).unwrap().next().is_none());
}

#[test]
fn who_is_not_of_the_app_is_not_heard() {
    let home = Home::new();
    home.write("app.sh", "sleep 1000");
    home.run("start app.sh -n a --wait-ready --listen-timeout 200ms").code(1);
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.connect(socket(&home)).unwrap();
    stranger.send(b"READY=1\nSTATUS=never mind").unwrap();
    until("it is refused", || std::fs::read_to_string(home.root().join("pmr.log")).unwrap().contains("is not of it"));
    assert_eq!(home.one("a").status, "launching");
}

#[test]
fn who_hangs_is_started_again_with_the_reason() {
    let (home, port) = serving("--wait-ready --watchdog 8s --max-restarts 100 --kill-timeout 100ms");
    let before = home.one("a").pid;
    processes::signal(before, Signal::SIGSTOP);
    let rows = home.when("a", "another runs", |rows| rows[0].online() && rows[0].pid != before);
    assert_eq!(rows[0].restarts, 1);
    home.daemon_logged("has not said for 8000 ms that it is alive");
    assert_eq!(http::get(port, "/").unwrap(), rows[0].pid.to_string());
}

#[test]
fn what_is_said_while_there_is_no_god_is_heard_by_the_next() {
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
fn another_process_of_the_tree_can_stand_for_the_app() {
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
    home.has_heard();
    assert!(home.children().contains(&first[0].pid));
    assert_eq!((home.one("a").pid, home.one("a").restarts), (first[0].pid, 0));
    processes::signal(first[0].pid, Signal::SIGKILL);
    home.when("a", "started again", |rows| rows[0].restarts == 1 && rows[0].pid != first[0].pid);
}
