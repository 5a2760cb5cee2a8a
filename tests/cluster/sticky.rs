//! Socket.IO with HTTP long polling on four workers, without a line about clustering: each of its requests must reach the
//! worker that knows the session.

use std::process::Command;

use serde::Deserialize;

use crate::packages;
use crate::support::{Home, http};

#[derive(Debug, Deserialize)]
struct Polled {
    asked: usize,
    failed: Vec<String>,
    pids: Vec<Vec<i32>>,
}

fn poll(port: u16, clients: usize, rounds: usize) -> Polled {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/polling.mjs");
    let (clients, rounds) = (clients.to_string(), rounds.to_string());
    let folder = packages::examples();
    let output = Command::new("node").arg(script).arg(folder).args([&port.to_string(), &clients, &rounds]).output();
    let output = output.expect("node is installed");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn socket_io_works_with_long_polling_on_four_workers() {
    let home = Home::new();
    let port = http::free_port();
    let app = packages::examples().join("socketio.js").display().to_string();
    let line = format!("start {app} -n chat -i 4 --balance sticky");
    home.pmr(line.split_whitespace()).env("PORT", port.to_string()).run().ok();
    for _ in 0..2 {
        let polled = poll(port, 16, 20);
        assert_eq!((polled.asked, polled.failed.len()), (320, 0), "{polled:?}");
        assert!(polled.pids.iter().all(|pids| pids.len() == 1), "each client has one worker: {polled:?}");
        let mut workers: Vec<i32> = polled.pids.concat();
        workers.sort_unstable();
        workers.dedup();
        assert!(workers.len() > 1, "the clients are spread: {polled:?}");
        home.ok("reload chat");
    }
}
