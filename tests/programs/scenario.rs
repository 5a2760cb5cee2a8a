//! The scenario: one program under pmr, with its load, faults and measurements.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::balance::Balance;
use crate::catalog::{PidQuery, Program};
use crate::load::{Kind, Load, LoadStats, Mode};
use crate::outcome::{Losses, Outcome, Step, Tallies};
use crate::support::http::{self, free_port};
use crate::support::listing::Row;
use crate::support::{Home, eventually, processes};
use crate::toolchain::{folder, place};

/// Concurrent clients of each mode.
pub const CLIENTS: usize = 4;
/// Modes of the load: connections that clients never close, close after some requests, and close after one.
const MODES: [Mode; 3] = [Mode::Keep, Mode::Few, Mode::New];
/// Number of clients that keep connections alive, for some requests or for ever.
pub const KEEPALIVE_CLIENTS: usize = 2 * CLIENTS;
/// Connections for each worker in a split, opened one after the other on idle workers.
const CONNECTIONS_PER_WORKER: usize = 40;
/// The unprivileged user `nobody`.
pub const NOBODY: u32 = 65534;
/// How long a stopping worker waits for clients that never close their connections. Clients with one request are done
/// by then.
const DRAIN_TIMEOUT: &str = "3s";

/// The user that runs pmr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The user that runs the tests.
    Tester,
    /// [`NOBODY`], if root runs the tests.
    Nobody,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_root = *self == User::Tester && Uid::effective().is_root();
        f.write_str(if is_root { "root" } else { "user" })
    }
}

/// A clustered program with a home of its own.
pub struct App {
    program: &'static Program,
    pub home: Home,
    port: u16,
}

/// Runs the whole scenario. [`Outcome::faults`] tells what was wrong.
pub fn run(program: &'static Program, user: User, reloads: usize) -> Outcome {
    let app = App::start(program, user);
    let balance = app.balance();
    let split = [app.split(2), app.scaled(4).split(4)];
    app.scaled(2);
    let mut loads = Loads::start(&app);
    let start = Instant::now();
    let reloaded = loads.during(&app, 2, |_| (0..reloads).for_each(|_| app.reload()));
    let reload = start.elapsed() / u32::try_from(reloads).expect("a few");
    let scaled = loads.during(&app, 2, |loads| {
        app.scaled(4);
        loads.reach(&app);
        app.scaled(2);
    });
    let killed = loads.during(&app, 2, |loads| app.kill_one(loads));
    let god_killed = loads.during(&app, 2, |_| app.kill_god());
    let mut answered = loads.stop();
    let mut steps = vec![
        (Step::Reload(reloads), reloaded),
        (Step::Scale, scaled),
        (Step::KillWorker, killed),
        (Step::KillGod, god_killed),
    ];
    let wake_time = program.activated.then(|| {
        let (took, losses, more) = app.on_demand();
        steps.push((Step::Wake, losses));
        answered += more;
        took
    });
    Outcome { program, user, balance, split, steps, answered, reload, wake_time }
}

impl App {
    /// Starts two workers, and waits until both are ready.
    fn start(program: &'static Program, user: User) -> App {
        let home = match user {
            User::Tester => Home::new(),
            User::Nobody => Home::of_user(NOBODY),
        };
        home.limit(Duration::from_secs(300));
        let app = App { program, home, port: free_port() };
        app.begin("");
        app.workers(2);
        app
    }

    /// Starts the app with these flags beside the usual ones.
    fn begin(&self, flags: &str) {
        let App { program, home, port } = self;
        let listen = if program.activated { format!("--listen tcp://127.0.0.1:{port}") } else { String::new() };
        let flags =
            format!("-i 2 --name app --listen-timeout 100s --drain-timeout {DRAIN_TIMEOUT} {listen} {flags} --");
        let (place, args) = (place(program.program, program, *port), place(program.args, program, *port));
        let words = ["start", &place].into_iter().chain(flags.split_whitespace()).chain(args.split_whitespace());
        let command = home.pmr(words).env("PORT", port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.within(&configured(program, home, *port)).run().ok();
    }

    /// The balance that the daemon reports.
    fn balance(&self) -> Balance {
        let described = self.home.ok("describe 0").out;
        if described.contains("by chance") { Balance::Random } else { Balance::RoundRobin }
    }

    /// Waits until there are `count` workers and all are ready. Returns their pids, by instance.
    fn workers(&self, count: usize) -> Vec<i32> {
        self.workers_when(count, "all workers online", |_| true)
    }

    fn workers_when(&self, count: usize, what: &str, wanted: impl Fn(&[i32]) -> bool) -> Vec<i32> {
        let pids = |rows: &[Row]| rows.iter().map(|row| row.pid).collect::<Vec<_>>();
        let rows = self
            .home
            .when("app", what, |rows| rows.len() == count && rows.iter().all(Row::online) && wanted(&pids(rows)));
        pids(&rows)
    }

    /// Waits until there are `count` workers and the workers that left are gone.
    fn settled(&self, count: usize) {
        self.workers(count);
        eventually("only the workers are left", || {
            let children = self.home.children();
            if children.len() == count { Ok(()) } else { Err(format!("{children:?}, not {count}")) }
        });
    }

    fn scaled(&self, count: usize) -> &App {
        self.home.ok(&format!("scale app {count}"));
        self.settled(count);
        self
    }

    fn reload(&self) {
        let before = self.workers(2);
        self.home.ok("reload app");
        self.workers_when(2, "all replaced", |pids| pids.iter().all(|pid| !before.contains(pid)));
    }

    /// Starts the app again with an idle timeout. Returns how long the first client waits, what clients of all modes
    /// lose that arrive at an idle app, and how many requests are answered.
    fn on_demand(&self) -> (Duration, Losses, u64) {
        self.home.ok("delete app");
        self.begin("--idle-timeout 1s");
        self.home.status("app", "idle");
        let start = Instant::now();
        http::get(self.port, "/").expect("it is answered");
        let took = start.elapsed();
        self.home.status("app", "idle");
        let mut loads = Loads::spawn(self);
        loads.go_on();
        let after = loads.0.map(Load::stop);
        let answered = after.iter().map(|stats| stats.answered).sum();
        self.home.status("app", "idle");
        (took, Losses::between(&Default::default(), &after), answered)
    }

    /// Opens connections one after the other, and returns the number of answers of each worker.
    fn split(&self, workers: usize) -> Vec<u64> {
        let query = format!(r#""count":{}{}"#, CONNECTIONS_PER_WORKER * workers, self.question());
        let stats = Load::spawn(Kind::Http, Mode::New, self.port, &query).read();
        assert!(stats.failed.is_empty(), "{}: {:?}", self.program.name, stats.failed);
        let by = self.by_worker(&stats, workers);
        self.workers(workers).iter().map(|pid| by.get(pid).copied().unwrap_or(0)).collect()
    }

    /// Number of answers of each worker. A worker may be a tree of processes, any of which answers.
    fn by_worker(&self, stats: &LoadStats, workers: usize) -> BTreeMap<i32, u64> {
        let workers = self.workers(workers);
        let mut by = BTreeMap::new();
        for (pid, count) in &stats.by {
            let mut line = std::iter::successors(Some(*pid), |pid| processes::parent_of(*pid));
            if let Some(worker) = line.find(|pid| workers.contains(pid)) {
                *by.entry(worker).or_default() += count;
            }
        }
        by
    }

    /// Arguments of the load client: how this program reports its pid.
    fn question(&self) -> String {
        let text = |text: &str| serde_json::to_string(text).expect("a text is JSON");
        match self.program.query {
            PidQuery::Plain => String::new(),
            PidQuery::In(pattern) => format!(r#","pid":{}"#, text(pattern)),
            PidQuery::At(path, pattern) => format!(r#","path":{},"pid":{}"#, text(path), text(pattern)),
        }
    }

    /// Kills a worker, and waits until its successor gets connections.
    fn kill_one(&self, loads: &mut Loads) {
        let victim = self.workers(2)[1];
        processes::signal(victim, Signal::SIGKILL);
        self.workers_when(2, "replaced", |pids| !pids.contains(&victim));
        loads.reach(self);
    }

    /// Kills God, and waits for another one. The workers stay the same.
    fn kill_god(&self) {
        let (workers, god) = (self.workers(2), self.home.god_pid());
        processes::signal(god, Signal::SIGKILL);
        eventually("another God", || match self.home.god_pid() {
            same if same == god => Err(format!("{same}")),
            _ => Ok(()),
        });
        assert_eq!(self.workers(2), workers, "{}: the workers are the same", self.program.name);
    }
}

/// The folder in which the program runs. If its port is in a config file, the folder is the home's work folder, with a
/// copy of the file that has our port.
fn configured(program: &Program, home: &Home, port: u16) -> std::path::PathBuf {
    let from = folder(program);
    let Some(file) = program.args.split_whitespace().find(|word| word.ends_with(".conf")) else { return from };
    let text = std::fs::read_to_string(from.join(file)).expect("the example is there");
    home.write(file, &text.replace("3000", &port.to_string()));
    home.work().to_owned()
}

/// Load of all modes.
struct Loads([Load; MODES.len()]);

impl Loads {
    fn start(app: &App) -> Loads {
        let mut loads = Loads::spawn(app);
        loads.reach(app);
        loads
    }

    fn spawn(app: &App) -> Loads {
        let more = format!(r#""clients":{CLIENTS},"again":true{}"#, app.question());
        Loads(MODES.map(|mode| Load::spawn(Kind::Http, mode, app.port, &more)))
    }

    fn stats(&mut self) -> Tallies {
        self.0.each_mut().map(Load::stats)
    }

    /// Waits until more requests of every mode are answered.
    fn go_on(&mut self) {
        let before = self.stats();
        for (load, before) in self.0.iter_mut().zip(&before) {
            load.until("requests are answered", |stats| stats.answered >= before.answered + 20);
        }
    }

    /// Waits for answers in every mode, and until new connections have reached all current workers.
    fn reach(&mut self, app: &App) {
        let count = app.home.of("app").len();
        self.go_on();
        for (load, _) in self.0.iter_mut().zip(MODES).filter(|(_, mode)| *mode != Mode::Keep) {
            load.until("load on all workers", |stats| app.by_worker(stats, count).len() == count);
        }
    }

    /// Requests that are lost during `act` and until the app has settled.
    fn during(&mut self, app: &App, workers: usize, act: impl FnOnce(&mut Loads)) -> Losses {
        let before = self.stats();
        act(self);
        app.settled(workers);
        self.reach(app);
        Losses::between(&before, &self.stats())
    }

    /// Stops the load. No more requests may fail. Returns the number of answers in total.
    fn stop(mut self) -> u64 {
        let before = self.stats();
        let after = self.0.map(Load::stop);
        let late: Vec<_> = after.iter().zip(&before).flat_map(|(after, before)| after.since(before)).collect();
        assert!(late.is_empty(), "failed in the end: {late:?}");
        after.iter().map(|stats| stats.answered).sum()
    }
}
