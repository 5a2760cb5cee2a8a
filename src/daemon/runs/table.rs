//! The table of runs that are alive: their main processes, their process trees, and the orphans that belong to them.
//!
//! The keeper is the parent of every process that pmr starts, and as a subreaper it adopts orphans: when a process of a
//! run's tree loses its parent, it becomes a child of the keeper. So a run's tree has ended exactly when its main process
//! has been reaped and no child of the keeper belongs to the run: of any process that survives, the topmost living
//! ancestor in the tree would be such a child. No tree is ever polled.
//!
//! When the keeper itself dies, its children get another parent. The children of that parent are looked through, too. Its
//! children's exits are not reported by a keeper, so each of these processes is watched by a pidfd.
//!
//! Every run has a record in the ledger, under `live/RUN`, by which the next God knows it: pid and start time.

mod inherited;
mod orphans;
mod signals;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::keeper::Ledger;
use crate::os::cgroup::Cgroup;
use crate::os::clock;
use crate::os::process::proc;
use crate::os::process::proc::Stat;
use crate::os::process::reap::Ended;
use crate::os::process::{identity, pidfd, tree};
use crate::protocol::{Exit, Run};
use crate::supervisor::{AppId, Input};

/// The variable that marks every process of a run, unless a program cleans its environment.
pub const RUN_VARIABLE: &str = "PMR_RUN";
/// The variable that marks a health check of a run in place of [`RUN_VARIABLE`], since a check is no process of the run.
pub const CHECK_VARIABLE: &str = "PMR_CHECK";
/// Prefix of the keys of runs in the ledger.
pub const KEY: &str = "live/";

/// Pid of a process that ended, and how it ended; `None` if that is not known.
pub type End = (i32, Option<Ended>);

/// The record of a run in the ledger.
#[derive(Deserialize)]
pub struct Record {
    /// The run.
    #[serde(flatten)]
    pub live: LiveRun,
    /// Folders of the run's control group; empty if it has none.
    #[serde(default)]
    pub group: Vec<PathBuf>,
}

/// [`Record`], borrowed for writing.
#[derive(Serialize)]
struct RecordRef<'a> {
    #[serde(flatten)]
    live: &'a LiveRun,
    group: &'a [PathBuf],
}

/// A run of which at least one process is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveRun {
    /// Pid of the main process.
    pub pid: i32,
    /// When the main process started, in clock ticks since boot. Together with the pid it identifies the process.
    pub start: u64,
    /// The app that the run is of.
    pub app: AppId,
    /// True once the main process has been reaped.
    #[serde(default)]
    exited: bool,
    /// Inodes of the pipes of standard output and standard error; 0 if they are not known.
    #[serde(default)]
    pub pipes: [u64; 2],
    /// The log files of standard output and standard error; `None` if the output is dropped.
    #[serde(default)]
    pub logs: [Option<PathBuf>; 2],
    /// True once the stop signal was sent, or was about to be: set just before.
    #[serde(default, rename = "told_to_stop")]
    pub is_stopping: bool,
    /// The pids of the tree when [`RunTable::tree`] last collected it.
    #[serde(skip)]
    last_tree: Vec<i32>,
    /// The last reading of the processor time: clock ticks, time of the reading (monotonic ms), and the percentage since
    /// the reading before.
    #[serde(skip)]
    pub last_usage: Option<(u64, u64, f32)>,
    /// When it was started, in ms of the monotonic clock.
    pub started: u64,
}

impl LiveRun {
    /// A run that starts now and whose main process has this pid.
    #[must_use]
    pub fn new(pid: i32, app: AppId, pipes: [u64; 2], logs: [Option<PathBuf>; 2]) -> LiveRun {
        LiveRun {
            pid,
            start: pidfd::start_time(pid).unwrap_or_default(),
            app,
            exited: false,
            pipes,
            logs,
            is_stopping: false,
            last_tree: vec![],
            last_usage: None,
            started: clock::monotonic_ms(),
        }
    }

    /// The main process as `/proc` has it; `None` once it has been reaped. It may be a zombie.
    #[must_use]
    pub fn stat(&self) -> Option<Stat> {
        proc::stat(self.pid).filter(|stat| !self.exited && stat.start == self.start)
    }
}

/// The runs that are alive.
#[derive(Debug)]
pub struct RunTable {
    runs: HashMap<Run, LiveRun>,
    /// The runs by the pid of their main process, while that has not been reaped.
    mains: HashMap<i32, Run>,
    /// Pidfds of the main processes. A signal sent by one never goes to another process that got the same pid later.
    pidfds: HashMap<Run, OwnedFd>,
    /// The control groups of the runs, which contain all their processes, if the machine has such groups.
    groups: HashMap<Run, Cgroup>,
    /// Children of the keeper that are no main process, by pid, and the run whose tree each is from.
    orphans: HashMap<i32, Run>,
    /// The processes whose children are looked through: the keeper, and the processes that adopted the children of a keeper
    /// that died.
    parents: BTreeSet<i32>,
    keeper: i32,
    god: i32,
    /// Part of the mark in the environment of each process, so that the processes of another daemon are not taken for ours.
    lineage: String,
    ledger: Ledger,
    /// Reports the ends of processes that are no children of the keeper to God.
    ends: UnboundedSender<End>,
    /// True once the keeper has died and could not be replaced: then no exit is reported by a keeper.
    without_keeper: bool,
}

impl RunTable {
    /// A table without runs.
    #[must_use]
    pub fn new(keeper: i32, lineage: String, ledger: Ledger, ends: UnboundedSender<End>) -> RunTable {
        let god = identity::pid();
        RunTable {
            runs: HashMap::new(),
            mains: HashMap::new(),
            pidfds: HashMap::new(),
            groups: HashMap::new(),
            orphans: HashMap::new(),
            parents: BTreeSet::from([keeper]),
            keeper,
            god,
            lineage,
            ledger,
            ends,
            without_keeper: false,
        }
    }

    /// The value of [`RUN_VARIABLE`] for this run.
    #[must_use]
    pub fn mark(&self, run: Run) -> String {
        format!("{}.{}", self.lineage, run.0)
    }

    /// Adds a run that was started or recovered, and commits its record.
    pub fn insert(&mut self, run: Run, live: LiveRun) {
        if !live.exited {
            self.mains.insert(live.pid, run);
            if self.without_keeper {
                self.watch(live.pid);
            }
        }
        self.runs.insert(run, live);
        self.commit_record(run);
    }

    /// Sets the pidfd of a run's main process.
    pub fn set_pidfd(&mut self, run: Run, pidfd: OwnedFd) {
        self.pidfds.insert(run, pidfd);
    }

    /// The pidfd of a run's main process, if this is its pid.
    #[must_use]
    pub fn pidfd(&self, run: Run, pid: i32) -> Option<&OwnedFd> {
        self.main(run).filter(|main| *main == pid).and(self.pidfds.get(&run))
    }

    /// Marks the run as stopping and commits its record.
    pub fn mark_stopping(&mut self, run: Run) {
        if let Some(live) = self.runs.get_mut(&run) {
            live.is_stopping = true;
            self.commit_record(run);
        }
    }

    fn commit_record(&self, run: Run) {
        self.update_record(run);
        self.ledger.commit();
    }

    /// Brings the run's record in the ledger up to date, or removes it if the run has ended; written with the next commit.
    /// After [`RunTable::ended`] that must be the commit of what the supervisor changes because of the end. If the end were
    /// committed alone and God died then, the next God would not report it to the supervisor.
    pub fn update_record(&self, run: Run) {
        let paths = self.groups.get(&run).map(Cgroup::paths).unwrap_or_default();
        let record = self.runs.get(&run).map(|live| RecordRef { live, group: paths });
        let json = record.and_then(|record| serde_json::to_string(&record).ok());
        let key = format!("{KEY}{}", run.0);
        match json {
            Some(json) => self.ledger.put(&key, &json),
            None => self.ledger.remove(&key),
        }
    }

    fn forget(&mut self, run: Run) {
        self.runs.remove(&run);
        // Dropping the group removes its folder, since no process is in it any more.
        self.groups.remove(&run);
    }

    /// Sets the control group of the run, if it has one. The group is removed when the run has ended.
    pub fn set_group(&mut self, run: Run, group: Option<Cgroup>) {
        self.groups.extend(group.map(|group| (run, group)));
    }

    /// Sends SIGKILL to all processes in the run's control group.
    pub fn kill_group(&self, run: Run) {
        if let Some(group) = self.groups.get(&run) {
            group.kill();
        }
    }

    /// A run that is alive.
    #[must_use]
    pub fn get(&self, run: Run) -> Option<&LiveRun> {
        self.runs.get(&run)
    }

    /// The runs whose main process has not been reaped.
    pub fn running(&mut self) -> impl Iterator<Item = (Run, &mut LiveRun)> {
        self.runs.iter_mut().filter(|(_, live)| !live.exited).map(|(run, live)| (*run, live))
    }

    /// Pid of the run's main process; `None` once it has been reaped.
    #[must_use]
    pub fn main(&self, run: Run) -> Option<i32> {
        self.runs.get(&run).filter(|live| !live.exited).map(|live| live.pid)
    }

    /// Makes another process of the run's tree its main process.
    ///
    /// # Errors
    /// In words, if the process does not belong to the tree, or one of the two has ended.
    pub fn replace_main(&mut self, run: Run, pid: i32) -> Result<(), String> {
        if self.main(run) == Some(pid) {
            return Ok(());
        }
        if !self.tree(run).contains(&pid) {
            return Err("that process does not belong to the run".to_owned());
        }
        let pidfd = pidfd::open(pid).map_err(|error| error.to_string())?;
        let Some(live) = self.runs.get_mut(&run).filter(|live| !live.exited) else {
            return Err("the main process before has ended".to_owned());
        };
        self.mains.remove(&live.pid);
        self.mains.insert(pid, run);
        self.orphans.remove(&pid);
        (live.pid, live.start) = (pid, pidfd::start_time(pid).unwrap_or_default());
        self.pidfds.insert(run, pidfd);
        // If its parent is not the keeper, the keeper does not report its end.
        self.watch(pid);
        self.commit_record(run);
        Ok(())
    }

    /// Children of the keeper ended. Returns the inputs for the supervisor. They are handled in one call, so that the
    /// orphans they left are looked up once for all of them.
    pub fn reaped(&mut self, dead: &[(i32, Ended)]) -> Vec<Input> {
        let ends: Vec<End> = dead.iter().map(|(pid, ended)| (*pid, Some(*ended))).collect();
        self.ended(&ends)
    }

    /// Processes ended, children of the keeper or not. Returns the inputs for the supervisor. The caller then updates the
    /// records of these runs; see [`RunTable::update_record`].
    pub fn ended(&mut self, dead: &[End]) -> Vec<Input> {
        let (mut exits, mut orphans_of) = (Vec::new(), Vec::new());
        for (pid, ended) in dead {
            orphans_of.extend(self.orphans.remove(pid));
            if let Some(run) = self.mains.remove(pid) {
                self.pidfds.remove(&run);
                if let Some(live) = self.runs.get_mut(&run) {
                    live.exited = true;
                }
                exits.push((run, exit(*ended, self.groups.get(&run))));
            }
        }
        // The children of those that ended are the keeper's now. They may be the survivors of a run.
        self.find_orphans();
        let mut inputs = Vec::new();
        for (run, exit) in exits {
            let survivors = self.has_orphans(run);
            if !survivors {
                self.forget(run);
            }
            inputs.push(Input::Exited { run, exit, survivors });
        }
        inputs.extend(orphans_of.into_iter().filter_map(|run| self.tree_exited(run)));
        inputs
    }

    fn has_orphans(&self, run: Run) -> bool {
        self.orphans.values().any(|of| *of == run)
    }

    /// If no process of the run is left, removes the run and returns the input that says so.
    fn tree_exited(&mut self, run: Run) -> Option<Input> {
        let exited = self.runs.get(&run).is_some_and(|live| live.exited) && !self.has_orphans(run);
        exited.then(|| {
            self.forget(run);
            Input::TreeExited { run }
        })
    }

    /// Pids of all processes of the run that can be found, parents before children.
    pub fn tree(&mut self, run: Run) -> Vec<i32> {
        self.find_orphans();
        let Some(live) = self.runs.get_mut(&run) else { return vec![] };
        let mut roots: Vec<i32> = if live.exited { vec![] } else { vec![live.pid] };
        roots.extend(self.orphans.iter().filter(|(_, of)| **of == run).map(|(pid, _)| *pid));
        let mut tree = tree::descendants(&roots);
        // The control group also has processes that left the tree.
        let in_group = self
            .groups
            .get(&run)
            .into_iter()
            .flat_map(Cgroup::procs)
            .filter(|pid| ![self.god, self.keeper].contains(pid));
        for pid in in_group {
            if !tree.contains(&pid) {
                tree.push(pid);
            }
        }
        live.last_tree.clone_from(&tree);
        tree
    }
}

/// How a process ended, as the protocol has it. A SIGKILL counts as out of memory if the kernel killed a process in the
/// `group` for that reason.
pub fn exit(ended: Option<Ended>, group: Option<&Cgroup>) -> Exit {
    match ended {
        None => Exit::Unknown,
        Some(Ended::Code(code)) => Exit::Code(code),
        Some(Ended::Signal(libc::SIGKILL)) => {
            match group.filter(|group| group.oom_kills() > 0).and_then(Cgroup::memory_limit) {
                Some(limit) => Exit::OutOfMemory { limit },
                None => Exit::Signal(libc::SIGKILL),
            }
        }
        Some(Ended::Signal(number)) => Exit::Signal(number),
    }
}
