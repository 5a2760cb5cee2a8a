//! UDP: what waits to be read is not lost with a worker that leaves, nor with one that dies.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::crash::kill_god;
use crate::support::eventually::PATIENCE;
use crate::support::listing::pids;
use crate::support::{Home, app, http, processes};

/// So many questions are open at any time, most of them in the workers' queues.
const OPEN: usize = 100;
/// How long an answer is waited for before the next question may be asked.
const PACE: Duration = Duration::from_millis(2);

/// Somebody who asks, and notes what is answered.
struct Caller {
    socket: UdpSocket,
    asked: u32,
    unanswered: BTreeSet<u32>,
}

impl Caller {
    fn new(port: u16) -> Caller {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.connect(("127.0.0.1", port)).expect("it is only noted");
        socket.set_read_timeout(Some(PACE)).expect("a limit can be set");
        Caller { socket, asked: 0, unanswered: BTreeSet::new() }
    }

    fn ask(&mut self) {
        self.socket.send(self.asked.to_string().as_bytes()).expect("somebody has the port");
        self.unanswered.insert(self.asked);
        self.asked += 1;
    }

    fn hear(&mut self) {
        let mut buffer = [0; 64];
        let Ok(length) = self.socket.recv(&mut buffer) else { return };
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (_, question) = answer.split_once(' ').expect("two words");
        assert!(self.unanswered.remove(&question.parse().expect("a number")), "answered twice: {answer}");
    }

    /// Hears answers until no more are missing than may be.
    fn hear_all(&mut self, missing: usize) {
        let deadline = Instant::now() + PATIENCE / 2;
        while self.unanswered.len() > missing && Instant::now() < deadline {
            self.hear();
        }
    }

    /// Asks while something is done. How many questions were lost.
    fn during(mut self, act: impl FnOnce()) -> usize {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if self.unanswered.len() < OPEN {
                        self.ask();
                    }
                    self.hear();
                }
                self.hear_all(0);
            });
            act();
            over.store(true, Ordering::Relaxed);
            asking.join().expect("it goes on to the end");
        });
        self.unanswered.len()
    }
}

/// Two workers that are given a socket, or have one of their own.
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

fn loses_nothing_by_reloads(words: &str) {
    let (home, port) = serving(words);
    let lost = Caller::new(port).during(|| {
        (0..3).for_each(|_| reload(&home));
        home.ok("scale a 4");
        home.ok("scale a 2");
        kill_god(&home);
    });
    assert_eq!(lost, 0);
}

#[test]
fn what_waits_is_read_before_a_worker_leaves() {
    loses_nothing_by_reloads("--listen udp://127.0.0.1:PORT --wait-ready");
}

#[test]
fn and_so_it_is_where_workers_bind_by_themselves() {
    loses_nothing_by_reloads("");
}

#[test]
fn what_waits_for_a_killed_worker_is_read_by_the_next() {
    let (home, port) = serving("--listen udp://127.0.0.1:PORT --wait-ready");
    let mut caller = Caller::new(port);
    (0..OPEN).for_each(|_| caller.ask());
    let victim = pids(&home.of("a"))[0];
    processes::signal(victim, Signal::SIGKILL);
    home.replaced("a", &[victim]);
    caller.hear_all(1);
    let lost = caller.unanswered.len();
    assert!(lost <= 1, "it had one in its hands, and {lost} are lost");
}
