//! Runs the load client `client.mjs` and reads its counts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::support::eventually;

/// A request without any byte of an answer for this many milliseconds has hung. A busy machine delays none that long.
const SILENCE: u32 = 20_000;

/// The server's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Https,
    Http2,
    Net,
    Ws,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One request after the other on each connection, until the server ends it.
    Keep,
    /// A new connection for each request.
    New,
    /// A new connection after some requests on each.
    #[allow(dead_code, reason = "for servers that cannot end connections by themselves, as those of this program can")]
    Few,
}

/// The results of all requests so far.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LoadStats {
    pub answered: u64,
    /// Answers by pid of the worker.
    pub by: BTreeMap<i32, u64>,
    /// Requests that were repeated, because a connection that had served before ended without a byte of an answer.
    #[allow(dead_code, reason = "only programs that do not know pmr make clients do that")]
    pub stale: u64,
    pub failed: Vec<Failed>,
    /// The age of the oldest request in flight, in milliseconds, when the client wrote this stats.
    oldest: u64,
}

/// A request without a whole answer.
#[derive(Clone, Debug, Deserialize)]
#[allow(dead_code, reason = "read where an assertion fails")]
pub struct Failed {
    /// `refused`, `reset`, `truncated`, `hung` or `wrong`.
    pub how: String,
    pub what: String,
    /// The load it was part of: `keep`, `new`, `upload`, `slow` or `long`.
    pub mode: String,
    /// The worker that answered on this connection before; `None` on a new connection.
    pub pid: Option<i32>,
    /// Milliseconds since the start of the load.
    pub at: u64,
}

impl LoadStats {
    /// What failed after an earlier stats.
    pub fn since(&self, before: &LoadStats) -> Vec<Failed> {
        self.failed[before.failed.len()..].to_vec()
    }
}

/// A running client. It is killed when this is dropped.
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// This many clients at once, until [`Load::stop`].
    pub fn start(kind: Kind, mode: Mode, port: u16, clients: usize) -> Load {
        Load::spawn(kind, mode, port, &format!(r#""clients":{clients}"#))
    }

    /// This many requests, one after the other.
    pub fn count(kind: Kind, mode: Mode, port: u16, count: usize) -> LoadStats {
        Load::spawn(kind, mode, port, &format!(r#""count":{count}"#)).read()
    }

    /// With further options of the client, as JSON members.
    pub fn spawn(kind: Kind, mode: Mode, port: u16, more: &str) -> Load {
        let (kind, mode) = (format!("{kind:?}").to_lowercase(), format!("{mode:?}").to_lowercase());
        let what = format!(r#"{{"kind":"{kind}","mode":"{mode}","port":{port},"silence":{SILENCE},{more}}}"#);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/client.mjs");
        let mut node = Command::new("node");
        let node = node.args(["--no-warnings", script, &what]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().expect("node is installed");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it was piped"));
        Load { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    /// The results so far.
    pub fn stats(&mut self) -> LoadStats {
        let stdin = self.stdin.as_mut().expect("it is closed by the end only");
        stdin.write_all(b"\n").expect("the client lives");
        self.read()
    }

    /// The next stats it writes.
    pub fn read(&mut self) -> LoadStats {
        let line = self.lines.next().expect("the client lives").expect("it writes text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Waits until the stats is as wanted, and returns it.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&LoadStats) -> bool) -> LoadStats {
        eventually(what, || {
            let stats = self.stats();
            if wanted(&stats) { Ok(stats) } else { Err(format!("{stats:?}")) }
        })
    }

    /// Waits until all requests that were sent before now have ended, and returns the results. A client that was
    /// descheduled may not know yet that its connection has ended. When it has written a stats it does, and its next
    /// request goes to a worker that is there.
    #[allow(dead_code, reason = "for tests that distinguish failures before a moment from those after it")]
    pub fn settled(&mut self) -> LoadStats {
        self.stats();
        let end = Instant::now();
        eventually("requests under way have ended", || {
            // The age is valid at the time when the client writes it, which is after this moment.
            let passed = end.elapsed();
            let stats = self.stats();
            if Duration::from_millis(stats.oldest + 1) < passed { Ok(stats) } else { Err(format!("{stats:?}")) }
        })
    }

    /// Lets requests in flight end, and returns all results.
    pub fn stop(mut self) -> LoadStats {
        self.stdin = None;
        self.read()
    }
}

/// Clients of several kinds at once.
#[allow(dead_code, reason = "not all tests that share this file have several")]
pub struct Loads<const KINDS: usize>(pub [Load; KINDS]);

#[allow(dead_code, reason = "not all tests that share this file have several")]
impl<const KINDS: usize> Loads<KINDS> {
    /// Starts this many HTTP clients of each mode, and waits until each mode was answered.
    pub fn start(modes: [Mode; KINDS], port: u16, clients: usize) -> Loads<KINDS> {
        let mut loads = Loads(modes.map(|mode| Load::start(Kind::Http, mode, port, clients)));
        loads.are_served();
        loads
    }

    /// Waits until the clients of each mode were answered again.
    pub fn are_served(&mut self) {
        for load in &mut self.0 {
            let before = load.stats().answered;
            load.until("requests are answered", |stats| stats.answered > before + 20);
        }
    }

    pub fn stop(self) -> [LoadStats; KINDS] {
        self.0.map(Load::stop)
    }

    /// Stops all clients and asserts that each request was answered.
    #[track_caller]
    pub fn leave_content(self) {
        for stats in self.stop() {
            assert!(stats.failed.is_empty(), "of {} requests failed {:?}", stats.answered, stats.failed);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
