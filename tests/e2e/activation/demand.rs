//! Apps that run when somebody comes.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{answering, get_unix, serving};
use crate::support::eventually::until;
use crate::support::{Home, example, http, processes};

#[test]
fn an_app_that_nobody_needs_rests_and_the_next_client_is_answered() {
    let (home, port) = serving("-i 2 --wait-ready --idle-timeout 500ms");
    assert!(answering(port) > 0);
    let rows = home.status("a", "idle");
    assert!(rows.iter().all(|row| row.pid == 0));
    let start = Instant::now();
    let pid = answering(port);
    let took = start.elapsed();
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("woken and answered in {took:?}\n").as_bytes());
    let rows = home.of("a");
    assert_eq!((rows[0].pid, rows[0].restarts, rows[1].status.as_str()), (pid, 0, "idle"), "one is enough");
    home.status("a", "idle");
}

#[test]
fn who_stays_connected_keeps_it_awake() {
    let (home, port) = serving("--idle-timeout 400ms");
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let before = home.one("a").pid;
    let start = Instant::now();
    until("several timeouts have passed", || start.elapsed().as_millis() > 1600);
    assert_eq!((home.one("a").pid, home.one("a").status.as_str()), (before, "online"));
    drop(client);
    home.status("a", "idle");
}

#[test]
fn a_stop_keeps_it_down_and_a_start_brings_it_up() {
    let (home, port) = serving("--idle-timeout 300ms");
    home.status("a", "idle");
    home.ok("stop a");
    assert!(http::get(port, "/").is_err(), "a stopped app gives its port back");
    assert_eq!(home.one("a").status, "stopped");
    home.ok("start a");
    assert!(answering(port) > 0);
}

#[test]
fn rest_outlives_god_and_the_saved_list() {
    let (home, port) = serving("--idle-timeout 300ms");
    home.status("a", "idle");
    processes::signal(home.god_pid(), Signal::SIGKILL);
    home.ok("ping");
    assert_eq!(home.one("a").status, "idle");
    assert!(answering(port) > 0);
    home.status("a", "idle");
    home.ok("save");
    home.ok("kill");
    home.deserted();
    home.ok("resurrect");
    assert_eq!(home.one("a").status, "idle");
    assert!(answering(port) > 0);
    assert_eq!(home.one("a").restarts, 0);
}

#[test]
fn some_stay_awake_if_their_owner_wants() {
    let (home, port) = serving("-i 3 --idle-timeout 300ms --min-instances 1");
    let rows = home.when("a", "the first is awake, and no other", |rows| {
        let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
        statuses == ["online", "idle", "idle"]
    });
    assert_eq!(answering(port), rows[0].pid);
}

#[test]
fn a_unix_path_wakes_it_too() {
    let home = Home::new();
    let path = home.work().join("a.sock");
    let script = example("activated.py");
    home.ok(&format!("start {script} -n a --listen unix://{} --idle-timeout 300ms --wait-ready", path.display()));
    home.status("a", "idle");
    assert!(get_unix(&path, "/").unwrap().parse::<i32>().unwrap() > 0);
}
