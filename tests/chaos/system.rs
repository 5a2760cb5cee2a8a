//! The system under test: apps, the load on them, and the invariants.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::disk::Disk;
use crate::history::History;
use crate::load::{Kind, Load, LoadStats, Mode};
use crate::log_gaps::counted_with_gaps;
use crate::step::{Command, SINGLES, Step};
use crate::support::counting::counted;
use crate::support::eventually::WAIT_LIMIT;
use crate::support::inventory::processes_match_list;
use crate::support::listing::Row;
use crate::support::{Home, app, copy_program, eventually, example, http, pmr, processes};

/// Concurrent clients of each mode.
const CLIENTS: usize = 4;
/// Workers of the cluster at each check.
const WORKERS: usize = 2;
/// How often a command is repeated because God died before it answered.
const TRIES: usize = 20;
/// Open files that vary with the number of the daemon's clients.
const CLIENT_FILES: usize = 2;
/// Memory growth that is allowed, in bytes.
const MAX_GROWTH: u64 = 8 << 20;

/// Bounds of the restart count of an app.
#[derive(Clone, Copy, Debug, Default)]
struct Restarts {
    least: u64,
    most: u64,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    files: usize,
    keeper: u64,
    god: u64,
}

pub struct System {
    disk: Option<Disk>,
    port: u16,
    load: Option<[Load; 2]>,
    restarts: BTreeMap<&'static str, Restarts>,
    /// Pids of the apps that no step has touched since the last check, by app.
    known: BTreeMap<String, Vec<i32>>,
    killed_workers: Vec<i32>,
    was_full: bool,
    usage: Option<Usage>,
    lost: usize,
    answered: u64,
    home: Home,
}

impl System {
    pub fn new() -> System {
        let (home, port) = (Home::new(), http::free_port());
        let disk = Disk::mount(home.root());
        if disk.is_none() {
            println!("mounting a small disk is not allowed: it will not be full");
        }
        let begin = |line: &str| {
            home.pmr(line.split_whitespace()).env("PORT", port.to_string()).run().ok();
        };
        begin(&format!("start {} -n shell", app("count.sh")));
        begin(&format!("start {} -n python", app("count.py")));
        begin(&format!("start {} -n forest", app("forest.sh")));
        begin(&format!("start {} -n stubborn --kill-timeout 300", app("stubborn.sh")));
        home.serve(port, &format!("{} -n web -i {WORKERS}", example("node/http.js")));
        System {
            disk,
            port,
            load: None,
            restarts: SINGLES.map(|name| (name, Restarts::default())).into(),
            known: BTreeMap::new(),
            killed_workers: Vec::new(),
            was_full: false,
            usage: None,
            lost: 0,
            answered: 0,
            home,
        }
    }

    /// Sets the time limit of the whole walk.
    pub fn limit(&self, limit: Duration) {
        self.home.limit(limit);
    }

    /// Starts the load.
    pub fn start_load(&mut self) {
        let mut load = [Mode::Keep, Mode::New].map(|mode| Load::start(Kind::Http, mode, self.port, CLIENTS));
        for load in &mut load {
            load.until("the web server answers", |stats| stats.answered > 10);
        }
        self.load = Some(load);
    }

    // Steps.

    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::KillGod => self.kill_god(),
            Step::KillGods(times) => (0..*times).for_each(|_| self.kill_god()),
            Step::KillKeeper => self.kill_keeper(),
            Step::KillKeeperThenGod(pause) => {
                self.kill_keeper();
                std::thread::sleep(*pause);
                self.kill_god();
            }
            Step::KillWorker(which) => self.kill_worker(*which),
            Step::KillApp(name) => self.kill_app(name),
            Step::Update => self.update(&pmr::binary()),
            Step::UpdateToCopy => {
                let copy = self.home.work().join("copy");
                copy_program(&pmr::binary(), &copy);
                self.update(&copy);
            }
            Step::Command(command) => self.retry(*command),
            Step::KillDuring(command, pause) => self.with_disturbance(*command, |system| {
                std::thread::sleep(*pause);
                system.kill_god();
            }),
            Step::UpdateDuring(command) => self.with_disturbance(*command, |system| drop(system.home.run("update"))),
            Step::Freeze(pause) => self.freeze(*pause),
            Step::FullDisk => self.with_full_disk(System::wait_for_work),
            Step::KillOnFullDisk => self.with_full_disk(System::kill_god),
            Step::Point(point, command) => {
                std::fs::write(self.home.root().join("failpoints"), format!("{point}=return")).expect("there is room");
                self.kill_god();
                self.retry(*command);
            }
        }
        self.wait_for_answer();
    }

    /// Waits until the daemon answers. A command fails if its God dies before it answers.
    fn wait_for_answer(&self) {
        eventually("the daemon answers", || {
            let ran = self.home.run("ping");
            if ran.code == Some(0) { Ok(()) } else { Err(ran.transcript()) }
        });
    }

    fn kill_god(&mut self) {
        processes::signal(self.home.god_pid(), Signal::SIGKILL);
        self.wait_for_answer();
    }

    fn kill_keeper(&mut self) {
        let (keeper, god) = (self.home.daemon_pid(), self.home.god_pid());
        processes::signal(keeper, Signal::SIGKILL);
        eventually("another process is the keeper", || match self.home.daemon_pid() {
            now if now != keeper => Ok(()),
            now => Err(format!("{now}; God is {god} {:?}", processes::state(god))),
        });
        self.wait_for_answer();
    }

    fn kill_worker(&mut self, which: usize) {
        let pids = self.web();
        let victim = pids[which % pids.len()];
        self.killed_workers.push(victim);
        processes::signal(victim, Signal::SIGKILL);
        self.home.when("web", "replaced", |rows| rows.iter().all(|row| row.online() && row.pid != victim));
        self.known.remove("web");
    }

    fn kill_app(&mut self, name: &'static str) {
        let victim = self.home.one(name).pid;
        processes::signal(victim, Signal::SIGKILL);
        self.home.when(name, "restarted", |rows| rows[0].online() && rows[0].pid != victim);
        self.restarted(name, 1, 1);
    }

    fn update(&mut self, program: &std::path::Path) {
        let ran = self.home.pmr(["update".as_ref(), program.as_os_str()]).run();
        // An update during the probation of the last one is refused.
        assert!(ran.code == Some(0) || ran.err.contains("another upgrade"), "{}", ran.transcript());
    }

    fn freeze(&mut self, pause: Duration) {
        let god = self.home.god_pid();
        processes::signal(god, Signal::SIGSTOP);
        std::thread::sleep(pause);
        processes::signal(god, Signal::SIGCONT);
    }

    fn with_full_disk(&mut self, act: impl FnOnce(&mut System)) {
        let Some(disk) = &self.disk else { return };
        disk.fill();
        self.was_full = true;
        act(self);
        self.disk.as_ref().expect("it was there").free();
        eventually("the daemon writes no more warnings", || {
            let ran = self.home.run("jlist");
            if ran.err.is_empty() { Ok(()) } else { Err(ran.err) }
        });
    }

    /// Waits until more requests are answered.
    fn wait_for_work(&mut self) {
        for load in self.load.iter_mut().flatten() {
            let before = load.stats().answered;
            load.until("requests are answered", |stats| stats.answered > before + 20);
        }
    }

    /// Runs a command with a disturbance, and repeats the command afterwards.
    fn with_disturbance(&mut self, command: Command, disturbance: impl FnOnce(&mut System)) {
        let (line, _) = lines(command);
        self.note_touched(command);
        let running = self.home.pmr(line.split_whitespace()).spawn();
        disturbance(self);
        running.wait(WAIT_LIMIT);
        self.retry(command);
    }

    /// Repeats a command until it succeeds.
    fn retry(&mut self, command: Command) {
        let (first, second) = lines(command);
        for line in [Some(first), second].into_iter().flatten() {
            let mut tries = (0..TRIES).map(|_| {
                self.wait_for_answer();
                self.note_touched(command);
                self.home.run(&line)
            });
            let mut ran = tries.next().expect("it is tried");
            while !is_done(&ran) {
                let last = ran.transcript();
                ran = tries.next().unwrap_or_else(|| panic!("{TRIES} times in vain: {last}"));
            }
        }
        if let Command::Restart(name) = command {
            self.restarted(name, 1, 0);
        }
    }

    /// Records that a command may restart apps.
    fn note_touched(&mut self, command: Command) {
        match command {
            Command::Restart(name) | Command::StopAndStart(name) => self.restarted(name, 0, 1),
            Command::Reload | Command::Scale(_) => drop(self.known.remove("web")),
        }
    }

    fn restarted(&mut self, name: &'static str, least: u64, most: u64) {
        self.known.remove(name);
        let restarts = self.restarts.entry(name).or_default();
        restarts.least += least;
        restarts.most += most;
    }

    fn web(&self) -> Vec<i32> {
        let rows = self.home.when("web", "online", |rows| !rows.is_empty() && rows.iter().all(Row::online));
        rows.iter().map(|row| row.pid).collect()
    }

    // Invariants.

    /// Apps that no step has touched have the same pids as before.
    pub fn check_untouched(&mut self) {
        let mut now: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for row in self.home.list() {
            now.entry(row.name.clone()).or_default().push(row.pid);
        }
        for (name, pids) in &self.known {
            assert_eq!(now.get(name), Some(pids), "{name} was not touched");
        }
        self.known = now;
    }

    /// Stops the load and checks all invariants.
    pub fn checkpoint(&mut self, history: &mut History) {
        self.retry(Command::Scale(WORKERS));
        let load = self.load.take();
        for stats in load.into_iter().flatten().map(Load::stop) {
            self.check_failures(&stats);
        }
        processes_match_list(&self.home);
        self.check_restarts();
        self.check_logs();
        let usage = self.check_growth();
        history.note(&format!("check: {} answered, {} lost in killed workers, {usage:?}", self.answered, self.lost));
        self.check_untouched();
    }

    /// Requests may fail only inside killed workers.
    fn check_failures(&mut self, stats: &LoadStats) {
        self.answered += stats.answered;
        self.lost += stats.failed.len();
        let inside = |pid: Option<i32>| pid.is_none_or(|pid| self.killed_workers.contains(&pid));
        let cut = |how: &str| matches!(how, "reset" | "truncated");
        let wrong: Vec<_> = stats.failed.iter().filter(|failed| !cut(&failed.how) || !inside(failed.pid)).collect();
        assert!(wrong.is_empty(), "of {} requests failed {wrong:?}; killed: {:?}", stats.answered, self.killed_workers);
        let most = self.killed_workers.len() * CLIENTS * 2;
        assert!(self.lost <= most, "{} failed, where {most} can have been inside killed workers", self.lost);
    }

    fn check_restarts(&self) {
        for (name, Restarts { least, most }) in &self.restarts {
            let row = &self.home.status(name, "online")[0];
            assert!((*least..=*most).contains(&row.restarts), "{name}: {} is not in {least}..={most}", row.restarts);
        }
    }

    fn check_logs(&self) {
        for name in ["shell", "python"] {
            let file = format!("{name}-out.log");
            let pid = self.home.one(name).pid;
            let reached = |log: &str| match self.was_full {
                true => counted_with_gaps(log).get(&pid).copied(),
                false => counted(log).get(&pid).copied(),
            };
            let before = reached(&self.home.log(&file));
            eventually(&format!("{name} writes to its log"), || match reached(&self.home.log(&file)) {
                now if now > before => Ok(()),
                now => Err(format!("{now:?}, and before {before:?}")),
            });
        }
    }

    /// The number of open files and the memory stay about the same.
    fn check_growth(&mut self) -> Usage {
        let look = || {
            let (keeper, god) = (self.home.daemon_pid(), self.home.god_pid());
            let files = processes::lasting_files(god);
            Usage { files, keeper: processes::resident(keeper), god: processes::resident(god) }
        };
        let first = *self.usage.get_or_insert_with(look);
        eventually("no more open files than at first", || {
            let now = look();
            let grown = now.keeper > first.keeper + MAX_GROWTH || now.god > first.god + MAX_GROWTH;
            // God holds a pidfd for each adopted process, because no parent reports its exit.
            let adopted = adopted(self.home.root()).len();
            if now.files <= first.files + CLIENT_FILES + adopted && !grown {
                return Ok(now);
            }
            Err(format!("{now:?}, first {first:?}: {:?}", processes::open_files(self.home.god_pid())))
        })
    }

    /// Ends the daemon and all apps.
    pub fn close(self) {
        self.home.ok("kill");
        self.home.no_process_left();
    }
}

/// A command that found nothing to do is refused: an earlier attempt completed it.
fn is_done(ran: &pmr::Ran) -> bool {
    ran.code == Some(0) || ran.err.contains("nothing to do")
}

/// Processes of a home whose parent is not one of its processes, because their keeper died.
fn adopted(root: &std::path::Path) -> Vec<i32> {
    let all = processes::of_home(root);
    let has_parent: Vec<i32> = all.iter().flat_map(|parent| processes::children(*parent)).collect();
    all.into_iter().filter(|pid| !has_parent.contains(pid)).collect()
}

/// The command line, and a second one where the command takes two.
fn lines(command: Command) -> (String, Option<String>) {
    match command {
        Command::Reload => ("reload web".to_owned(), None),
        Command::Scale(workers) => (format!("scale web {workers}"), None),
        Command::StopAndStart(name) => (format!("stop {name}"), Some(format!("start {name}"))),
        Command::Restart(name) => (format!("restart {name}"), None),
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // The disk is unmounted before the home is dropped, and the home would not find its daemon then.
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.root().join("pmr.log")).unwrap_or_default();
            println!("the daemon's log:\n{log}");
        }
        if self.home.root().join("rpc.sock").exists() {
            self.home.run("kill -s");
        }
    }
}
