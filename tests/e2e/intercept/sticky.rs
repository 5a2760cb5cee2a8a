//! The sticky balance in the kernel: all connections of a client address go to the same worker, as HTTP long polling
//! needs it, in any language.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::socket::{NOBODY, Socket};
use super::{Fixture, PYTHON, possible, there};
use crate::crash::kill_god;
use crate::support::listing::Row;
use crate::support::{Home, app, eventually, http};

/// Number of client addresses, from 127.0.0.1 on.
const CLIENTS: u8 = 200;

/// The worker that answered a client: its instance number and its pid.
type Answer = (u32, i32);

/// The app in a home of this user, which has another balancer, or of root. `None` where that is not possible.
fn fixture(socket: Socket, user: Option<u32>, balance: &str) -> Option<Fixture> {
    let fixture = Fixture { home: socket.home(user)?, port: http::free_port() };
    fixture.home.write("sticky.py", &std::fs::read_to_string(app("share/sticky.py")).unwrap());
    release(&fixture, socket, balance);
    fixture.home.ok("start it.json");
    Some(fixture)
}

fn release(fixture: &Fixture, socket: Socket, balance: &str) {
    let listen = socket.config(fixture.port);
    let text = format!(
        r#"{{ "apps": [{{ "name": "it", "script": "{}/sticky.py", "interpreter": "{PYTHON}", "instances": 4, {listen}
            "balance": "{balance}", "merge_logs": true, "listen_timeout": "30s", "exec_mode": "cluster",
            "env": {{ "PORT": "{}" }} }}] }}"#,
        fixture.home.work().display(),
        fixture.port
    );
    fixture.home.write("it.json", &text);
}

impl Fixture {
    /// Sends a request from this client address. Returns the worker that answers.
    fn ask(&self, last: u8) -> std::io::Result<Answer> {
        let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), 0))?;
        connect(&socket, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let words = answer.lines().last().and_then(|line| line.split_once(' '));
        let read = words.and_then(|(instance, pid)| Some((instance.parse().ok()?, pid.parse().ok()?)));
        read.ok_or_else(|| std::io::Error::other(answer))
    }

    /// The worker that answers each client. An error if the worker of a client changes.
    fn map(&self) -> Result<BTreeMap<u8, Answer>, String> {
        let mut map = BTreeMap::new();
        for _ in 0..3 {
            for last in 1..=CLIENTS {
                let answer = self.ask(last).map_err(|error| format!("{last}: {error}"))?;
                let before = *map.entry(last).or_insert(answer);
                if before != answer {
                    return Err(format!("127.0.0.{last}: {before:?}, then {answer:?}"));
                }
            }
        }
        Ok(map)
    }

    /// Waits until the map matches and stays the same, and returns it.
    fn settled(&self, what: &str, wanted: impl Fn(&BTreeMap<u8, Answer>) -> bool) -> BTreeMap<u8, Answer> {
        eventually(what, || {
            let map = self.map()?;
            if wanted(&map) && self.map()? == map { Ok(map) } else { Err(format!("{map:?}")) }
        })
    }
}

fn instances(map: &BTreeMap<u8, Answer>) -> Vec<u32> {
    map.values().map(|(instance, _)| *instance).collect()
}

fn pids(map: &BTreeMap<u8, Answer>) -> Vec<i32> {
    map.values().map(|(_, pid)| *pid).collect()
}

fn run_scenario(socket: Socket, user: Option<u32>) {
    let Some(fixture) = fixture(socket, user, "sticky") else { return };
    let first = fixture.settled("four have clients", |map| (0..4).all(|instance| instances(map).contains(&instance)));
    for instance in 0..4 {
        let count = instances(&first).into_iter().filter(|of| *of == instance).count();
        assert!((25..=75).contains(&count), "worker {instance} has {count} clients");
    }
    let described = fixture.home.ok("describe it").says("by client address in the kernel");
    // Connections are counted where every connection is assigned exactly while workers are replaced.
    let exact = described.out.contains("connections so far");
    kill_god(&fixture.home);
    assert_eq!(fixture.map().as_ref(), Ok(&first), "the next God sends all where the last one did");
    while_asking(&fixture, exact, || drop(fixture.home.ok("reload it")));
    let reloaded = fixture.settled("successors have the clients", |map| instances(map) == instances(&first));
    assert!(pids(&reloaded).iter().all(|pid| !pids(&first).contains(pid)), "{first:?} {reloaded:?}");
    fixture.home.ok("scale it 5");
    let more = fixture.settled("the fifth has clients", |map| instances(map).contains(&4));
    let moved: Vec<_> = more.iter().filter(|(client, answer)| reloaded[client] != **answer).collect();
    assert!(moved.iter().all(|(_, (instance, _))| *instance == 4), "clients move to the new worker only: {moved:?}");
    assert!((15..=65).contains(&moved.len()), "about a fifth: {}", moved.len());
    fixture.home.ok("scale it 4");
    assert_eq!(fixture.settled("all are back", |map| !instances(map).contains(&4)), reloaded);
    kill_god(&fixture.home);
    assert_eq!(fixture.map().as_ref(), Ok(&reloaded));
}

/// Four clients send requests during `act`. If `exact`, workers of one instance number answer each client.
fn while_asking(fixture: &Fixture, exact: bool, act: impl FnOnce()) {
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=4)
            .map(|last| {
                let asking = move || {
                    let mut found = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let (instance, _) = fixture.ask(last).expect("an answer");
                        found.push(instance);
                    }
                    found.dedup();
                    found
                };
                scope.spawn(asking)
            })
            .collect();
        act();
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let found = client.join().expect("each is answered");
            assert!(!exact || found.len() == 1, "{found:?}");
        }
    });
}

#[test]
fn workers_that_bind_keep_their_clients() {
    run_scenario(Socket::Bound, None);
}

#[test]
fn workers_of_an_ordinary_user_that_bind_keep_their_clients() {
    run_scenario(Socket::Bound, Some(NOBODY));
}

#[test]
fn activated_workers_keep_their_clients() {
    run_scenario(Socket::Given, None);
}

#[test]
fn activated_workers_of_an_ordinary_user_keep_their_clients() {
    run_scenario(Socket::Given, Some(NOBODY));
}

#[test]
fn a_sticky_balance_set_later_holds_from_the_reload_on() {
    let Some(fixture) = fixture(Socket::Bound, None, "round_robin") else { return };
    let by: BTreeSet<Answer> = (0..60).map(|_| fixture.ask(1).expect("an answer")).collect();
    assert_eq!(by.len(), 4, "{by:?}");
    release(&fixture, Socket::Bound, "sticky");
    fixture.home.ok("reload it.json");
    let first = fixture.settled("four have clients", |map| (0..4).all(|instance| instances(map).contains(&instance)));
    kill_god(&fixture.home);
    assert_eq!(fixture.map().as_ref(), Ok(&first));
    release(&fixture, Socket::Bound, "round_robin");
    fixture.home.ok("reload it.json");
    fixture.home.when("it", "online", |rows| rows.iter().all(Row::online));
    let by: BTreeSet<Answer> = (0..60).map(|_| fixture.ask(1).expect("an answer")).collect();
    assert!(by.len() >= 4, "{by:?}");
}

#[test]
fn a_balance_that_the_kernel_lacks_causes_a_warning() {
    let fixture = Fixture { home: Home::new(), port: http::free_port() };
    if !there(PYTHON) || !possible(&fixture.home) {
        return;
    }
    let line = format!(
        "start {} -n it --interpreter {PYTHON} -i 2 --balance least --max-connections 9",
        app("share/threads.py")
    );
    let start = fixture.home.pmr(line.split_whitespace()).env("PORT", fixture.port.to_string()).run();
    start
        .ok()
        .complains("it: `balance: least` is for Node and for pmr's own channel")
        .complains("it: `max_connections`");
    fixture.home.ok("describe it").says("`balance: least` works on pmr's own channel only");
    fixture.home.ok("explain it").says("Warnings").says("any other program has as many as it accepts");
    let one = format!("start {} -n one -i 2 --balance sticky --share queue", app("share/threads.py"));
    fixture.home.run(&one).refuses("`sticky` gives each client one worker");
    let given =
        format!("start {} -n given -i 2 --balance least --listen tcp://:{}", app("share/sticky.py"), fixture.port);
    fixture.home.run(&given).refuses("`least` is for Node");
}
