//! Clients who wait while nobody serves: for no longer than they are meant to, by whatever road connections get to the
//! workers, and whatever number of daemons die meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::crash::kill_god;
use crate::support::eventually::PATIENCE;
use crate::support::listing::Row;
use crate::support::{Home, app, example, http, processes};

/// Longer than a daemon lives here.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An app with workers that have died, and will not be started again for long.
struct Deserted {
    home: Home,
    port: u16,
    path: PathBuf,
}

impl Deserted {
    /// `PATH` and `PORT` in the words stand for its Unix path and port.
    fn new(words: &str) -> Deserted {
        Deserted::after(TIMEOUT, words)
    }

    fn after(timeout: Duration, words: &str) -> Deserted {
        let (home, port) = (Home::new(), http::free_port());
        let path = home.work().join("a.sock");
        let words = words.replace("PATH", &path.display().to_string()).replace("PORT", &port.to_string());
        let waits = format!("--queue-timeout {}ms --restart-delay 1h --listen-timeout 100s", timeout.as_millis());
        let line = format!("start {words} -n it {waits}");
        home.pmr(line.split_whitespace()).env("PORT", port.to_string()).env("SOCKET", &path).run().ok();
        let rows = home.when("it", "online", |rows| !rows.is_empty() && rows.iter().all(Row::online));
        rows.iter().for_each(|row| processes::signal(row.pid, Signal::SIGKILL));
        home.when("it", "waiting", |rows| rows.iter().all(|row| row.status == "waiting restart"));
        Deserted { home, port, path }
    }

    /// One daemon after another is killed until the client is told something, which is that nobody is there.
    fn turns_away(&self, client: impl Read + Write + Send + 'static) {
        let start = Instant::now();
        let client = std::thread::spawn(move || told(client));
        let mut gods = 0;
        while !client.is_finished() {
            assert!(start.elapsed() < PATIENCE, "the client waits still, after {gods} daemons");
            kill_god(&self.home);
            gods += 1;
        }
        let (answer, took) = (client.join().expect("it is told"), start.elapsed());
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(gods > 0 && took >= TIMEOUT, "after {took:?} and {gods} daemons");
    }

    fn turns_away_at_its_port(&self) {
        self.turns_away(TcpStream::connect(("127.0.0.1", self.port)).expect("the door is open"));
    }

    fn turns_away_at_its_path(&self) {
        self.turns_away(UnixStream::connect(&self.path).expect("the door is open"));
    }
}

fn told(mut client: impl Read + Write) -> String {
    write!(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it ends in good order");
    answer
}

#[test]
fn at_sockets_that_are_given() {
    let script = example("activated.py");
    Deserted::new(&format!("{script} --wait-ready --listen tcp://127.0.0.1:PORT")).turns_away_at_its_port();
    Deserted::new(&format!("{script} --wait-ready --listen unix://PATH")).turns_away_at_its_path();
}

#[test]
fn at_a_port_that_is_taken_over() {
    let script = app("share/threads.py");
    Deserted::new(&format!("{script} --interpreter python3 -i 2")).turns_away_at_its_port();
}

#[test]
fn where_workers_get_connections_from_us() {
    let channel = app("channel.py");
    Deserted::new(&format!("{channel} -i 1 --exec-mode cluster")).turns_away_at_its_port();
    Deserted::new(&format!("{} -i 1", app("plain.js"))).turns_away_at_its_port();
}

#[test]
fn where_node_workers_share_a_socket() {
    let script = app("plain.js");
    Deserted::new(&format!("{script} -i 2 --balance shared")).turns_away_at_its_port();
}

#[test]
fn a_path_is_open_to_the_next_worker_and_it_serves_who_has_time_left() {
    let words = format!("{} --wait-ready --listen unix://PATH", example("activated.py"));
    let there = Deserted::after(PATIENCE, &words);
    let client = UnixStream::connect(&there.path).expect("the door is open");
    let client = std::thread::spawn(move || told(client));
    kill_god(&there.home);
    there.home.ok("restart it");
    assert!(client.join().expect("it is told").starts_with("HTTP/1.1 200 "));
}

#[test]
fn where_nobody_can_wait_that_is_said() {
    let home = Home::new();
    let said = "`queue_timeout` is for clusters and for sockets that are given";
    home.run(&format!("start {} -n it --queue-timeout 5s", app("tell.sh"))).ok().complains(said);
    home.ok("describe it").says("may not hold");
    home.ok("explain it").says(said);
}
