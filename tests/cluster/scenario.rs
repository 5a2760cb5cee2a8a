//! The scenario that every app goes through.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::load::{Failed, Kind, Load, LoadStats, Mode};
use crate::packages;
use crate::support::http::free_port;
use crate::support::{Home, eventually, processes};

/// The number of workers of each app.
const WORKERS: usize = 4;
/// The number of clients of each mode.
const CLIENTS: usize = 6;
const RELOADS: usize = 5;
/// How many connections are opened one after the other on idle workers.
const IDLE_CONNECTIONS: usize = 40;
/// The drain timeout where the protocol cannot tell clients to reconnect: they stay until it ends.
const SHORT_DRAIN: &str = "1s";
/// A timeout that never ends, also on a busy machine.
const LONG: &str = "100s";

/// An app on a version of Node.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// A file of `examples/node`.
    pub file: &'static str,
    pub kind: Kind,
    /// The major version; `None` for the installed Node.
    pub node: Option<u32>,
    /// True if the app finishes its requests on SIGINT, false if SIGINT ends it.
    pub graceful: bool,
}

/// The results of the scenario. Arrays of two are by mode: keep-alive connections, new connections.
#[derive(Debug)]
pub struct Outcome {
    case: Case,
    /// Connections of each worker.
    spread: Vec<u64>,
    /// Requests that the kill of a worker cost, in both modes.
    killed: Vec<Failed>,
    /// Requests that all reloads together cost.
    reloaded: [Vec<Failed>; 2],
    answered: [u64; 2],
    /// The mean time of a reload.
    reload: Duration,
}

/// A clustered app with its home.
pub struct App {
    pub home: Home,
    pub port: u16,
}

impl Case {
    pub fn new(file: &'static str, kind: Kind) -> Case {
        Case { file, kind, node: None, graceful: true }
    }

    pub fn abrupt(self) -> Case {
        Case { graceful: false, ..self }
    }

    pub fn on(self, node: u32) -> Case {
        Case { node: Some(node), ..self }
    }

    /// True if the protocol can tell clients to reconnect.
    fn says_goodbye(self) -> bool {
        match self.kind {
            Kind::Http | Kind::Https | Kind::Http2 => true,
            Kind::Net | Kind::Ws => false,
        }
    }

    /// The app under pmr, all workers ready.
    pub fn start(self) -> App {
        let script = packages::examples().join(self.file).display().to_string();
        let (home, port) = (Home::new(), free_port());
        // The first case may have to install a version of Node.
        home.limit(Duration::from_secs(300));
        let interpreter = packages::node(self.node);
        let drain = if self.says_goodbye() { LONG } else { SHORT_DRAIN };
        let mut words = vec!["start", &script, "-i", "4", "--name", "app", "--interpreter", &interpreter];
        words.extend(["--listen-timeout", LONG, "--drain-timeout", drain]);
        if self.graceful {
            words.extend(["--kill-timeout", LONG]);
        }
        let [key, cert] = certificate(&home);
        let command = home.pmr(words).env("PORT", port.to_string()).env("TLS_KEY", key).env("TLS_CERT", cert);
        command.env("GRACEFUL", if self.graceful { "yes" } else { "no" }).run().ok();
        let app = App { home, port };
        app.pids();
        app
    }

    /// Runs the scenario. Asserts what must hold, and returns what was measured.
    pub fn run(self) -> Outcome {
        let app = self.start();
        let spread = self.spread(&app);
        let mut loads = [Mode::Keep, Mode::New].map(|mode| Load::start(self.kind, mode, app.port, CLIENTS));
        let [keep, new] = &mut loads;
        keep.until("load on connections kept alive", |stats| stats.answered > 100);
        new.until("load on all workers", |stats| stats.by.len() == WORKERS && stats.answered > 100);
        let (killed, before) = self.kill(&app, &mut loads);
        let start = Instant::now();
        for _ in 0..RELOADS {
            app.reload();
        }
        let reload = start.elapsed() / RELOADS as u32;
        app.settled();
        let after = loads.map(Load::stop);
        let reloaded = [0, 1].map(|mode| after[mode].since(&before[mode]));
        let answered = after.map(|stats| stats.answered);
        let outcome = Outcome { case: self, spread, killed, reloaded, answered, reload };
        outcome.check();
        outcome
    }

    /// Idle workers get the same number of connections.
    fn spread(self, app: &App) -> Vec<u64> {
        let stats = Load::count(self.kind, Mode::New, app.port, IDLE_CONNECTIONS);
        assert!(stats.failed.is_empty(), "{self:?}: {:?}", stats.failed);
        let spread: Vec<u64> = app.pids().iter().map(|pid| stats.by.get(pid).copied().unwrap_or(0)).collect();
        let share = (IDLE_CONNECTIONS / WORKERS) as u64;
        assert_eq!(spread, [share; WORKERS], "{self:?}: connections per worker");
        spread
    }

    /// Kills a worker. Asserts that only requests inside it fail, and that its successor gets connections. Returns the
    /// failed requests, and the statistics after them.
    fn kill(self, app: &App, loads: &mut [Load; 2]) -> (Vec<Failed>, [LoadStats; 2]) {
        let victim = app.pids()[1];
        let before = loads.each_mut().map(Load::stats);
        processes::signal(victim, Signal::SIGKILL);
        let successor = app.pids_when("replaced", |pids| !pids.contains(&victim))[1];
        let [keep, new] = loads;
        let joined = |stats: &LoadStats| stats.by.contains_key(&successor);
        new.until("the successor gets connections", joined);
        let after = [keep.settled(), new.settled()];
        let failed = [0, 1].map(|mode| after[mode].since(&before[mode]));
        for failed in &failed {
            let inside = |failed: &Failed| {
                matches!(&*failed.how, "reset" | "truncated") && failed.pid.is_none_or(|pid| pid == victim)
            };
            assert!(failed.len() <= CLIENTS && failed.iter().all(inside), "{self:?}, killed {victim}: {failed:?}");
        }
        (failed.concat(), after)
    }
}

impl App {
    /// The pids of the workers by instance, when all of them are ready.
    pub fn pids(&self) -> Vec<i32> {
        self.pids_when("all workers online", |_| true)
    }

    fn pids_when(&self, what: &str, wanted: impl Fn(&[i32]) -> bool) -> Vec<i32> {
        let pids = |rows: &[crate::support::listing::Row]| rows.iter().map(|row| row.pid).collect::<Vec<_>>();
        let rows = self.home.when("app", what, |rows| {
            rows.len() == WORKERS && rows.iter().all(crate::support::listing::Row::online) && wanted(&pids(rows))
        });
        pids(&rows)
    }

    /// Reloads the app and waits until all workers are replaced.
    pub fn reload(&self) {
        let before = self.pids();
        self.home.ok("reload app");
        self.pids_when("all replaced", |pids| pids.iter().all(|pid| !before.contains(pid)));
    }

    /// Waits until the workers that were replaced have ended.
    pub fn settled(&self) {
        eventually("only the new workers are left", || {
            let children = self.home.children();
            if children.len() == WORKERS { Ok(()) } else { Err(format!("{children:?}")) }
        });
    }
}

impl Outcome {
    /// The most failures on kept connections, in all reloads, that no process manager can prevent.
    ///
    /// Where the protocol cannot tell clients to reconnect, a client sends requests until its connection ends. The app
    /// can end the connection between two requests. If it has no handler, SIGINT ends it during a request. So each
    /// client may lose one request with each worker that ends.
    fn unpreventable(&self) -> usize {
        if self.case.graceful || self.case.says_goodbye() { 0 } else { CLIENTS * WORKERS * RELOADS }
    }

    fn check(&self) {
        let [kept, new] = &self.reloaded;
        let cut = |failed: &Failed| failed.how == "reset" || failed.how == "truncated";
        assert!(kept.len() <= self.unpreventable() && kept.iter().all(cut), "{self:?}");
        assert!(new.is_empty(), "{self:?}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { case, spread, killed, reloaded, answered, reload } = self;
        let node = case.node.map_or("installed".to_owned(), |version| version.to_string());
        let kind = if case.graceful { "graceful" } else { "abrupt" };
        let (keep, new) = (reloaded[0].len(), reloaded[1].len());
        write!(f, "| {} | {node} | {kind} | {spread:?} | {} | {keep} of {}", case.file, killed.len(), answered[0])?;
        write!(f, " | {new} of {} | {:.1} s |", answered[1], reload.as_secs_f32())
    }
}

/// A key and a certificate for `localhost`, made by each test, so that the repository has no secret.
fn certificate(home: &Home) -> [String; 2] {
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| home.work().join(name).display().to_string());
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost";
    let mut openssl = Command::new("openssl");
    let output = openssl.args(words.split(' ')).args(["-keyout", &key, "-out", &cert]).output();
    assert!(output.expect("openssl is installed").status.success(), "a certificate is made");
    [key, cert]
}
