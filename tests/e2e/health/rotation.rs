//! An unhealthy worker is ejected from rotation while another worker of its app is healthy. If none is, all get
//! connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use crate::crash::kill_god;
use crate::support::eventually::until;
use crate::support::listing::{Row, pids};
use crate::support::{Home, app, http};

/// This number of concurrent connections reaches both of two workers, whatever the balance.
const CONNECTIONS: usize = 16;

/// Two workers of the app `it`, which fails its check while the file `sick/PID` exists. `on_fail` does nothing.
pub struct Pair<'a> {
    pub home: &'a Home,
    pub port: u16,
}

impl Pair<'_> {
    fn file(&self, pid: i32) -> PathBuf {
        self.home.work().join(format!("sick/{pid}"))
    }

    fn fail_check(&self, pid: i32) {
        self.home.write(&format!("sick/{pid}"), "");
    }

    fn pass_check(&self, pid: i32) {
        std::fs::remove_file(self.file(pid)).expect("it was ill");
    }

    /// Waits until exactly these pids are out of rotation, and this number of workers is unhealthy.
    fn when_out(&self, out: &[i32], unhealthy: usize) -> Vec<Row> {
        let is_out = |row: &&Row| row.env("pmr")["out_of_rotation"] == true;
        self.home.when("it", &format!("out of rotation: {out:?}, unhealthy: {unhealthy}"), |rows| {
            let there: Vec<i32> = rows.iter().filter(is_out).map(|row| row.pid).collect();
            there == out && rows.iter().filter(|row| row.status == "unhealthy").count() == unhealthy
        })
    }

    fn request(&self) -> i32 {
        http::get(self.port, "/").expect("it answers").parse().expect("a pid")
    }

    fn only_answers(&self, pid: i32) {
        let answers: Vec<i32> = (0..CONNECTIONS).map(|_| self.request()).collect();
        assert!(answers.iter().all(|answer| *answer == pid), "{answers:?}, not only {pid}");
    }

    fn also_answers(&self, pid: i32) {
        until(&format!("{pid} answers"), || self.request() == pid);
    }

    /// Connections that workers have accepted, with incomplete requests.
    fn open_requests(&self) -> Vec<TcpStream> {
        let open = |_| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n").expect("a worker is there");
            stream
        };
        (0..CONNECTIONS).map(open).collect()
    }

    /// The whole scenario, from the first failed check to the last healthy worker that leaves.
    pub fn run_ejection_scenario(&self) {
        let before = self.home.when("it", "two that are well", |rows| rows.len() == 2 && rows.iter().all(Row::online));
        let (one, other) = (pids(&before)[0], pids(&before)[1]);
        self.also_answers(one);
        self.also_answers(other);
        let open = self.open_requests();
        self.fail_check(one);
        self.when_out(&[one], 1);
        let answers: Vec<i32> = open.into_iter().map(finish).collect();
        assert!(answers.contains(&one) && answers.contains(&other), "open requests are answered: {answers:?}");
        self.only_answers(other);
        self.home.ok("describe it").says("unhealthy, out of rotation");
        self.home
            .ok("explain it")
            .says("next: out of rotation: the other workers get its connections until it passes again");
        self.home.ok("list").complains(&format!("`it` ({}) is unhealthy and out of rotation", before[0].id));

        kill_god(self.home);
        self.only_answers(other);
        self.when_out(&[one], 1);
        self.pass_check(one);
        self.when_out(&[], 0);
        self.also_answers(one);

        self.fail_check(one);
        self.when_out(&[one], 1);
        self.fail_check(other);
        self.when_out(&[], 2);
        self.also_answers(one);
        self.also_answers(other);
        self.home.ok("explain it").says("no other worker is healthy");
        self.pass_check(other);
        self.when_out(&[one], 1);
        self.only_answers(other);
        self.home.ok(&format!("stop {}", before[1].id));
        self.only_answers(one);
        self.home.ok(&format!("start {}", before[1].id));
        let successor = self.when_out(&[one], 1)[1].pid;
        self.only_answers(successor);
    }
}

/// Completes a request, and returns the pid of the worker that answers.
fn finish(mut stream: TcpStream) -> i32 {
    stream.write_all(b"Connection: close\r\n\r\n").expect("it is there still");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().last().and_then(|pid| pid.trim().parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn an_unhealthy_node_worker_is_ejected_while_another_is_healthy() {
    let (home, port) = (Home::new(), http::free_port());
    let (script, sick) = (app("health.js"), home.work().join("sick"));
    let health = "{ http: '/healthz', interval: 100, timeout: 20000, retries: 2, on_fail: 'none' }";
    home.write(
        "it.config.js",
        &format!(
            "module.exports = [{{ name: 'it', script: '{script}', instances: 2, listen_timeout: 60000, health: {health}, \
             env: {{ PORT: '{port}', SICK: '{}' }} }}]",
            sick.display()
        ),
    );
    home.ok("start it.config.js");
    Pair { home: &home, port }.run_ejection_scenario();
}

/// An answer that any worker may have given says nothing about one worker.
#[test]
fn a_worker_that_fails_a_shared_check_stays_in_rotation() {
    let (home, port) = (Home::new(), http::free_port());
    let script = app("health.js");
    let health = "{ exec: 'test ! -e sick/$PMR_PID', interval: 100, timeout: 20000, retries: 1, on_fail: 'none' }";
    home.write(
        "it.config.js",
        &format!(
            "module.exports = [{{ name: 'it', script: '{script}', instances: 2, listen_timeout: 60000, health: {health}, \
             env: {{ PORT: '{port}' }} }}]"
        ),
    );
    home.ok("start it.config.js");
    let pair = Pair { home: &home, port };
    let one = pids(&home.of("it"))[0];
    pair.fail_check(one);
    pair.when_out(&[], 1);
    pair.also_answers(one);
}
