//! UDP: datagrams in a worker's queue are lost neither when the worker leaves nor when it dies.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::crash::kill_god;
use crate::support::eventually::WAIT_LIMIT;
use crate::support::listing::pids;
use crate::support::{Home, app, http, processes};

/// Requests without an answer at any time, most of them in the queues of the workers.
const OUTSTANDING: usize = 100;
/// How long to wait for an answer before the next request may be sent.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(2);

/// A client that numbers its requests and records which are answered.
struct UdpClient {
    socket: UdpSocket,
    sent: u32,
    unanswered: BTreeSet<u32>,
}

impl UdpClient {
    fn new(port: u16) -> UdpClient {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.connect(("127.0.0.1", port)).expect("it is only noted");
        socket.set_read_timeout(Some(RECEIVE_TIMEOUT)).expect("a limit can be set");
        UdpClient { socket, sent: 0, unanswered: BTreeSet::new() }
    }

    fn send(&mut self) {
        self.socket.send(self.sent.to_string().as_bytes()).expect("a process has the port");
        self.unanswered.insert(self.sent);
        self.sent += 1;
    }

    fn receive(&mut self) {
        let mut buffer = [0; 64];
        let Ok(length) = self.socket.recv(&mut buffer) else { return };
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (_, question) = answer.split_once(' ').expect("two words");
        assert!(self.unanswered.remove(&question.parse().expect("a number")), "a second answer: {answer}");
    }

    /// Receives answers until at most this number is missing.
    fn receive_all(&mut self, missing: usize) {
        let deadline = Instant::now() + WAIT_LIMIT / 2;
        while self.unanswered.len() > missing && Instant::now() < deadline {
            self.receive();
        }
    }

    /// Sends requests during `act`. Returns the number of requests that were lost.
    fn during(mut self, act: impl FnOnce()) -> usize {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if self.unanswered.len() < OUTSTANDING {
                        self.send();
                    }
                    self.receive();
                }
                self.receive_all(0);
            });
            act();
            over.store(true, Ordering::Relaxed);
            sending.join().expect("the client runs to its end");
        });
        self.unanswered.len()
    }
}

/// Two workers that inherit a socket or bind one themselves.
fn serving(words: &str) -> (Home, u16) {
    let (home, port) = (Home::new(), http::free_port());
    let words = words.replace("PORT", &port.to_string());
    home.serve(port, &format!("{} -n a -i 2 {words}", app("datagrams.py")));
    (home, port)
}

fn reload(home: &Home) {
    let before = pids(&home.of("a"));
    home.ok("reload a");
    assert!(pids(&home.of("a")).iter().all(|pid| !before.contains(pid)));
}

fn reloads_lose_no_datagram(words: &str) {
    let (home, port) = serving(words);
    let lost = UdpClient::new(port).during(|| {
        (0..3).for_each(|_| reload(&home));
        home.ok("scale a 4");
        home.ok("scale a 2");
        kill_god(&home);
    });
    assert_eq!(lost, 0);
}

#[test]
fn a_leaving_worker_reads_the_datagrams_in_its_queue() {
    reloads_lose_no_datagram("--listen udp://127.0.0.1:PORT --wait-ready");
}

#[test]
fn a_leaving_worker_that_bound_its_socket_reads_its_queue() {
    reloads_lose_no_datagram("");
}

#[test]
fn the_queue_of_a_killed_worker_is_read_by_its_successor() {
    let (home, port) = serving("--listen udp://127.0.0.1:PORT --wait-ready");
    let mut client = UdpClient::new(port);
    (0..OUTSTANDING).for_each(|_| client.send());
    let victim = pids(&home.of("a"))[0];
    processes::signal(victim, Signal::SIGKILL);
    home.replaced("a", &[victim]);
    client.receive_all(1);
    let lost = client.unanswered.len();
    assert!(lost <= 1, "it had one in its hands, and {lost} are lost");
}
