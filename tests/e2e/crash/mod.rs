//! The daemon is killed, and neither apps nor their clients nor readers of logs notice.

mod god;
pub mod keeper;
pub mod kill_points;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use nix::sys::signal::Signal;

use crate::load::{Loads, Mode};
use crate::support::counting::counted;
use crate::support::eventually::until;
use crate::support::{Home, app, eventually, example, http, processes};

/// Concurrent clients of each mode.
const CLIENTS: usize = 4;

/// A home with one app of each kind: `shell` and `python`, which number their lines, and `web`, a Node cluster of two
/// workers.
struct Fixture {
    home: Home,
    port: u16,
}

/// Load on the web server of a fixture.
type ClientLoads = Loads<2>;

impl Fixture {
    fn new() -> Fixture {
        let (home, port) = (Home::new(), http::free_port());
        let begin = |line: &str| {
            home.pmr(line.split_whitespace()).env("PORT", port.to_string()).run().ok();
        };
        begin(&format!("start {} -n shell", app("count.sh")));
        begin(&format!("start {} -n python", app("count.py")));
        home.serve(port, &format!("{} -n web -i 2", example("node/http.js")));
        Fixture { home, port }
    }

    fn loads(&self) -> ClientLoads {
        Loads::start([Mode::Keep, Mode::New], self.port, CLIENTS)
    }

    /// The state of all processes that must survive a crash of the daemon.
    fn facts(&self) -> Facts {
        facts(&self.home)
    }

    /// Waits until each counting app has written more lines, and checks that no line is missing.
    fn logs_go_on(&self) {
        for name in ["shell", "python"] {
            let pid = self.home.one(name).pid;
            let reached = || counted(&self.home.log(&format!("{name}-out.log"))).get(&pid).copied().unwrap_or(0);
            let before = reached();
            until(&format!("{name} writes to its log"), || reached() > before);
        }
    }

    /// Kills God, and waits until another one answers.
    fn kill_god(&self) -> Duration {
        kill_god(&self.home)
    }
}

/// The state of all processes that must not change: everything in the list except measurements. `pmr` is left out
/// because it has the present connections.
type Facts = BTreeMap<String, Value>;

fn facts(home: &Home) -> Facts {
    let mut facts = Facts::new();
    for row in home.list() {
        let about = |key: &str| format!("{} {} {key}", row.id, row.name);
        facts.insert(about("pid"), row.pid.into());
        let Value::Object(known) = &row.json["pm2_env"] else { panic!("{row:?}") };
        // The environment repeats these values.
        let known = known.iter().filter(|(key, _)| !["env", "pmr"].contains(&key.as_str()));
        facts.extend(known.map(|(key, value)| (about(key), value.clone())));
    }
    facts
}

/// Compares two states. `Err` lists the differences.
///
/// Times are stored on another clock than the one they are shown by, so the last digits may differ.
fn changes(before: &Facts, after: &Facts) -> Result<(), String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| !is_same(before.get(*key), after.get(*key)));
    let changed: Vec<_> =
        changed.map(|key| format!("{key}: {:?}, now {:?}", before.get(key), after.get(key))).collect();
    if changed.is_empty() { Ok(()) } else { Err(changed.join("\n")) }
}

/// Waits until the state is as before. It is read more than once because God may be descheduled between its reads of
/// the two clocks.
fn is_unchanged(home: &Home, before: &Facts) {
    eventually("all is as it was", || changes(before, &facts(home)));
}

fn is_same(before: Option<&Value>, after: Option<&Value>) -> bool {
    const RECENT: u64 = 1 << 40;
    match (before.and_then(Value::as_u64), after.and_then(Value::as_u64)) {
        (Some(before @ RECENT..), Some(after)) => before.abs_diff(after) <= 20,
        _ => before == after,
    }
}

/// Kills God, and waits until another one answers. Returns how long that took, including the start of the command that
/// asks.
pub fn kill_god(home: &Home) -> Duration {
    let god = home.god_pid();
    let start = Instant::now();
    processes::signal(god, Signal::SIGKILL);
    until("God is dead", || !processes::lives(god));
    answers(home);
    let took = start.elapsed();
    assert_ne!(home.god_pid(), god);
    took
}

/// Waits until the daemon answers. A command fails if its God dies before it answers.
fn answers(home: &Home) {
    eventually("the daemon answers", || {
        let ran = home.run("ping");
        if ran.code == Some(0) { Ok(()) } else { Err(ran.transcript()) }
    });
}
