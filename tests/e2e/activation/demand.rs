//! Apps that run on demand: started by a client, stopped when idle.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::{answering, get_unix, serving};
use crate::crash::kill_god;
use crate::support::eventually::until;
use crate::support::{Home, example, http};

/// A client that stays connected, and the pid of the worker that answered it.
fn staying(port: u16) -> (TcpStream, i32) {
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the app listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("the request is sent");
    let mut lines = BufReader::new(client.try_clone().expect("a socket can be shared")).lines();
    let body = lines.by_ref().skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).nth(1);
    let pid = body.expect("an answer").expect("a whole one").parse().expect("a pid");
    (client, pid)
}

#[test]
fn an_unused_app_goes_idle_and_the_next_client_starts_it() {
    let (home, port) = serving("-i 2 --wait-ready --idle-timeout 500ms");
    assert!(answering(port) > 0);
    let rows = home.status("a", "idle");
    assert!(rows.iter().all(|row| row.pid == 0));
    let start = Instant::now();
    let (client, pid) = staying(port);
    let took = start.elapsed();
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("woken and answered in {took:?}\n").as_bytes());
    let rows = home.of("a");
    assert_eq!((rows[0].pid, rows[0].restarts, rows[1].status.as_str()), (pid, 0, "idle"), "one is enough");
    drop(client);
    home.status("a", "idle");
}

#[test]
fn a_connected_client_keeps_an_app_running() {
    let (home, port) = serving("--idle-timeout 400ms");
    // A client that arrives while the app is being stopped is served, and the app goes idle afterwards.
    home.status("a", "idle");
    let (client, before) = staying(port);
    let start = Instant::now();
    until("several timeouts have passed", || start.elapsed().as_millis() > 1600);
    assert_eq!((home.one("a").pid, home.one("a").status.as_str()), (before, "online"));
    drop(client);
    home.status("a", "idle");
}

#[test]
fn a_stopped_app_is_not_started_by_a_client() {
    let (home, port) = serving("--idle-timeout 300ms");
    home.status("a", "idle");
    home.ok("stop a");
    assert!(http::get(port, "/").is_err(), "a stopped app gives its port back");
    assert_eq!(home.one("a").status, "stopped");
    home.ok("start a");
    assert!(answering(port) > 0);
}

#[test]
fn an_idle_app_stays_idle_across_daemons_and_the_saved_list() {
    let (home, port) = serving("--idle-timeout 300ms");
    home.status("a", "idle");
    kill_god(&home);
    assert_eq!(home.one("a").status, "idle");
    assert!(answering(port) > 0);
    home.status("a", "idle");
    home.ok("save");
    home.ok("kill");
    home.no_process_left();
    home.ok("resurrect");
    assert_eq!(home.one("a").status, "idle");
    assert!(answering(port) > 0);
    assert_eq!(home.one("a").restarts, 0);
}

#[test]
fn min_instances_keeps_some_workers_running() {
    let (home, port) = serving("-i 3 --idle-timeout 300ms --min-instances 1");
    let rows = home.when("a", "the first is awake, and no other", |rows| {
        let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
        statuses == ["online", "idle", "idle"]
    });
    assert_eq!(answering(port), rows[0].pid);
}

#[test]
fn a_client_at_a_unix_path_starts_an_idle_app() {
    let home = Home::new();
    let path = home.work().join("a.sock");
    let script = example("activated.py");
    let words = "--idle-timeout 300ms --wait-ready --listen-timeout 100s";
    home.ok(&format!("start {script} -n a --listen unix://{} {words}", path.display()));
    home.status("a", "idle");
    assert!(get_unix(&path, "/").unwrap().parse::<i32>().unwrap() > 0);
}

/// An app with an idle timeout and a health check that is much more frequent. Returns the home and the port.
fn checked(probe: &str) -> (Home, u16) {
    let (home, port) = (Home::new(), http::free_port());
    let probe = probe.replace("PORT", &port.to_string());
    let config = format!(
        "module.exports = [{{ name: 'a', script: '{}', exec_mode: 'cluster', listen: ['tcp://127.0.0.1:{port}'], idle_timeout: 1500, wait_ready: \
         true, listen_timeout: '100s', health: {{ {probe}, interval: 100, timeout: '1m' }} }}]",
        example("activated.py")
    );
    home.write("a.config.js", &config);
    home.ok("start a.config.js");
    (home, port)
}

#[test]
fn a_health_check_does_not_keep_an_app_running_and_a_client_does() {
    for probe in ["http: '/work'", "http: 'http://localhost:PORT/work'", "tcp: 'PORT'"] {
        let (home, port) = checked(probe);
        home.status("a", "idle");
        let (client, awake) = staying(port);
        let start = Instant::now();
        until("two timeouts have passed", || start.elapsed().as_millis() > 3000);
        assert_eq!((home.one("a").pid, home.one("a").status.as_str()), (awake, "online"), "{probe}");
        drop(client);
        home.status("a", "idle");
        let since = home.one("a").restarts;
        let start = Instant::now();
        until("a timeout has passed", || start.elapsed().as_millis() > 1500);
        assert_eq!(
            (home.one("a").status.as_str(), home.one("a").restarts),
            ("idle", since),
            "nothing wakes it: {probe}"
        );
    }
}

#[test]
fn a_check_that_looks_like_a_client_causes_a_warning() {
    let home = Home::new();
    let port = http::free_port();
    let line = format!("start {} -n a --listen tcp://127.0.0.1:{port} --idle-timeout 1m", example("activated.py"));
    home.run(&format!("{line} --health exec:true")).ok().complains("its check is a command");
    home.ok("describe a").says("warning");
    home.ok("explain a").says("its check is a command");
}
