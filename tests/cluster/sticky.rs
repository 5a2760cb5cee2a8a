//! Socket.IO with HTTP long polling on four workers. The app has no code for clustering: each of its requests must
//! reach the worker that knows the session.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::packages;
use crate::support::{Home, http};

/// The line that `polling.mjs` prints when each client has been answered once.
const ANSWERED: &str = "all have been answered\n";

#[derive(Debug, Deserialize)]
struct Polled {
    asked: usize,
    failed: Vec<String>,
    pids: Vec<Vec<i32>>,
}

/// Clients that each send this many requests; with `None`, they send requests until [`finish`], and each has been
/// answered once when this returns.
fn polling(port: u16, clients: usize, rounds: Option<usize>) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/polling.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(packages::examples()).args([port.to_string(), clients.to_string()]);
    node.args(rounds.map(|rounds| rounds.to_string()));
    let piped = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut clients = piped.spawn().expect("node is installed");
    if rounds.is_none() {
        let mut line = [0; ANSWERED.len()];
        let read = clients.stdout.as_mut().expect("it is piped").read_exact(&mut line);
        assert_eq!((read.is_ok(), &*String::from_utf8_lossy(&line)), (true, ANSWERED));
    }
    clients
}

fn finish(clients: Child) -> Polled {
    let output = clients.wait_with_output().expect("it ends");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn socket_io_works_with_long_polling_on_four_workers() {
    let home = Home::new();
    let port = http::free_port();
    let app = packages::examples().join("socketio.js").display().to_string();
    // A poll stays open for longer than the drain timeout, by design of the protocol, and nothing makes it end.
    let line = format!("start {app} -n chat -i 4 --balance sticky --listen-timeout 100s --drain-timeout 2s");
    home.pmr(line.split_whitespace()).env("PORT", port.to_string()).run().ok();
    for _ in 0..2 {
        let polled = finish(polling(port, 16, Some(20)));
        assert_eq!((polled.asked, polled.failed.len()), (320, 0), "{polled:?}");
        assert!(polled.pids.iter().all(|pids| pids.len() == 1), "each client has one worker: {polled:?}");
        let mut workers: Vec<i32> = polled.pids.concat();
        workers.sort_unstable();
        workers.dedup();
        assert!(workers.len() > 1, "the clients are spread: {polled:?}");
        let through = polling(port, 8, None);
        home.ok("reload chat");
        let polled = finish(through);
        assert!(polled.failed.is_empty(), "{polled:?}");
        assert!(polled.pids.iter().all(|pids| pids.len() > 1), "each client went on with another worker: {polled:?}");
    }
}
