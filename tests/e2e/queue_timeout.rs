//! Clients that wait while no worker runs. They wait no longer than the queue timeout, however connections get to the
//! workers, and however many daemons die meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::crash::kill_god;
use crate::support::eventually::WAIT_LIMIT;
use crate::support::listing::Row;
use crate::support::{Home, app, example, http, processes};

/// Longer than each daemon lives in these tests.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);

/// An app whose workers were killed and are not restarted for an hour.
struct DeadWorkers {
    home: Home,
    port: u16,
    path: PathBuf,
}

impl DeadWorkers {
    /// Starts the app and kills its workers. `PATH` and `PORT` in the words stand for its Unix path and its port.
    fn new(words: &str) -> DeadWorkers {
        DeadWorkers::after(QUEUE_TIMEOUT, words)
    }

    fn after(timeout: Duration, words: &str) -> DeadWorkers {
        let (home, port) = (Home::new(), http::free_port());
        let path = home.work().join("a.sock");
        let words = words.replace("PATH", &path.display().to_string()).replace("PORT", &port.to_string());
        let waits = format!("--queue-timeout {}ms --restart-delay 1h --listen-timeout 100s", timeout.as_millis());
        let line = format!("start {words} -n it {waits}");
        home.pmr(line.split_whitespace()).env("PORT", port.to_string()).env("SOCKET", &path).run().ok();
        let rows = home.when("it", "online", |rows| !rows.is_empty() && rows.iter().all(Row::online));
        rows.iter().for_each(|row| processes::signal(row.pid, Signal::SIGKILL));
        home.when("it", "waiting", |rows| rows.iter().all(|row| row.status == "waiting restart"));
        DeadWorkers { home, port, path }
    }

    /// Kills one daemon after another until the client has an answer, which must be 503 after the queue timeout.
    fn answers_503(&self, client: impl Read + Write + Send + 'static) {
        let start = Instant::now();
        let client = std::thread::spawn(move || answer_of(client));
        let mut gods = 0;
        while !client.is_finished() {
            assert!(start.elapsed() < WAIT_LIMIT, "the client still waits after {gods} daemons");
            kill_god(&self.home);
            gods += 1;
        }
        let (answer, took) = (client.join().expect("the client gets an answer"), start.elapsed());
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(gods > 0 && took >= QUEUE_TIMEOUT, "after {took:?} and {gods} daemons");
    }

    fn answers_503_at_its_port(&self) {
        self.answers_503(TcpStream::connect(("127.0.0.1", self.port)).expect("the socket is open"));
    }

    fn answers_503_at_its_path(&self) {
        self.answers_503(UnixStream::connect(&self.path).expect("the socket is open"));
    }
}

fn answer_of(mut client: impl Read + Write) -> String {
    write!(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the response ends");
    answer
}

#[test]
fn a_client_of_an_activated_app_is_answered_503_across_daemons() {
    let script = example("activated.py");
    DeadWorkers::new(&format!("{script} --wait-ready --listen tcp://127.0.0.1:PORT")).answers_503_at_its_port();
    DeadWorkers::new(&format!("{script} --wait-ready --listen unix://PATH")).answers_503_at_its_path();
}

#[test]
fn a_client_of_an_intercepted_port_is_answered_503_across_daemons() {
    let script = app("share/threads.py");
    DeadWorkers::new(&format!("{script} --interpreter python3 -i 2")).answers_503_at_its_port();
}

#[test]
fn a_client_of_a_channel_app_is_answered_503_across_daemons() {
    let channel = app("channel.py");
    DeadWorkers::new(&format!("{channel} -i 1 --exec-mode cluster")).answers_503_at_its_port();
    DeadWorkers::new(&format!("{} -i 1", app("plain.js"))).answers_503_at_its_port();
}

#[test]
fn a_client_of_a_shared_node_socket_is_answered_503_across_daemons() {
    let script = app("plain.js");
    DeadWorkers::new(&format!("{script} -i 2 --balance shared")).answers_503_at_its_port();
}

#[test]
fn a_client_that_has_time_left_is_served_by_the_next_worker() {
    let words = format!("{} --wait-ready --listen unix://PATH", example("activated.py"));
    let dead = DeadWorkers::after(WAIT_LIMIT, &words);
    let client = UnixStream::connect(&dead.path).expect("the socket is open");
    let client = std::thread::spawn(move || answer_of(client));
    kill_god(&dead.home);
    dead.home.ok("restart it");
    assert!(client.join().expect("the client gets an answer").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_queue_timeout_without_a_queue_causes_a_warning() {
    let home = Home::new();
    let said = "`queue_timeout` is for clusters and for sockets in `listen`";
    home.run(&format!("start {} -n it --queue-timeout 5s", app("tell.sh"))).ok().complains(said);
    home.ok("describe it").says("warning");
    home.ok("explain it").says(said);
}
