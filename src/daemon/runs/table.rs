//! The runs that are alive: their pids, their trees, and who among the keeper's children belongs to whom.
//!
//! The keeper is the parent of every process we start and adopts orphans, so when a process of a run's tree loses its
//! parent it becomes the keeper's child. A run's tree is gone exactly when its main process has been reaped and no child
//! of the keeper's belongs to it: any survivor's topmost runs ancestor would be one. No tree is ever polled.
//!
//! After the keeper's own death his children are somebody else's. Their new parents are looked at, too, and as nobody
//! tells us of their ends, we watch for them.
//!
//! Every run is written down in the ledger, under `live/RUN`, so that the next God knows it by pid and start time.

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
/// The variable that marks a check of a run, in its place: a check is none of the run's processes.
pub const CHECK_VARIABLE: &str = "PMR_CHECK";
/// What keys of runs begin with.
pub const KEY: &str = "live/";

/// A process that ended, and how if anybody knows.
pub type End = (i32, Option<Ended>);

/// The record of a run, and the folders of its group.
#[derive(Deserialize)]
pub struct Record {
    /// The run.
    #[serde(flatten)]
    pub live: LiveRun,
    /// Its group's folders, none if it has no group.
    #[serde(default)]
    pub group: Vec<PathBuf>,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
struct RecordRef<'a> {
    #[serde(flatten)]
    live: &'a LiveRun,
    group: &'a [PathBuf],
}

/// A run whose main process, or something of its tree, is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveRun {
    /// Pid of the main process.
    pub pid: i32,
    /// When that started, in clock ticks since boot: with the pid it names the process for certain.
    pub start: u64,
    /// Whose app.
    pub app: AppId,
    /// True once the main process has been reaped.
    #[serde(default)]
    exited: bool,
    /// Inodes of the pipes its output goes through.
    #[serde(default)]
    pub pipes: [u64; 2],
    /// The files its output goes to.
    #[serde(default)]
    pub logs: [Option<PathBuf>; 2],
    /// True once it was asked to stop.
    #[serde(default)]
    pub told_to_stop: bool,
    /// What else was in the tree when it was last looked at.
    #[serde(skip)]
    seen: Vec<i32>,
    /// The last reading of its processor time: clock ticks, when (monotonic ms), and the percentage it gave.
    #[serde(skip)]
    pub last_usage: Option<(u64, u64, f32)>,
    /// When it was started, in ms of the monotonic clock.
    pub started: u64,
}

impl LiveRun {
    /// A run whose main process has this pid.
    #[must_use]
    pub fn new(pid: i32, app: AppId, pipes: [u64; 2], logs: [Option<PathBuf>; 2]) -> LiveRun {
        LiveRun {
            pid,
            start: pidfd::start_time(pid).unwrap_or_default(),
            app,
            exited: false,
            pipes,
            logs,
            told_to_stop: false,
            seen: vec![],
            last_usage: None,
            started: clock::monotonic_ms(),
        }
    }

    /// The main process, if it has not been reaped. It may have ended.
    #[must_use]
    pub fn stat(&self) -> Option<Stat> {
        proc::stat(self.pid).filter(|stat| !self.exited && stat.start == self.start)
    }
}

/// All of them.
#[derive(Debug)]
pub struct RunTable {
    runs: HashMap<Run, LiveRun>,
    mains: HashMap<i32, Run>,
    /// The main processes, held, so that no signal goes to another of the same pid.
    pidfds: HashMap<Run, OwnedFd>,
    /// Where all processes of a run are, if the machine has such groups.
    groups: HashMap<Run, Cgroup>,
    /// Children of the keeper that are no main process, and whose tree they belong to.
    strays: HashMap<i32, Run>,
    /// Whose children are looked at: the keeper, and who has adopted children of one that died.
    parents: BTreeSet<i32>,
    keeper: i32,
    god: i32,
    /// Names this line of daemons: environments of different ones must not be confused.
    lineage: String,
    ledger: Ledger,
    /// Where ends are told that the keeper does not hear of.
    ends: UnboundedSender<End>,
    /// True if there is no keeper any more who would hear of any.
    alone: bool,
}

impl RunTable {
    /// Nobody yet.
    #[must_use]
    pub fn new(keeper: i32, lineage: String, ledger: Ledger, ends: UnboundedSender<End>) -> RunTable {
        let god = identity::pid();
        RunTable {
            runs: HashMap::new(),
            mains: HashMap::new(),
            pidfds: HashMap::new(),
            groups: HashMap::new(),
            strays: HashMap::new(),
            parents: BTreeSet::from([keeper]),
            keeper,
            god,
            lineage,
            ledger,
            ends,
            alone: false,
        }
    }

    /// What [`RUN_VARIABLE`] holds for this run.
    #[must_use]
    pub fn mark(&self, run: Run) -> String {
        format!("{}.{}", self.lineage, run.0)
    }

    /// A run began, or is found again.
    pub fn insert(&mut self, run: Run, live: LiveRun) {
        if !live.exited {
            self.mains.insert(live.pid, run);
            if self.alone {
                self.watch(live.pid);
            }
        }
        self.runs.insert(run, live);
        self.write_down(run);
    }

    /// Holds the main process of a run.
    pub fn hold(&mut self, run: Run, pidfd: OwnedFd) {
        self.pidfds.insert(run, pidfd);
    }

    /// The main process of a run as it is held, if this is its pid.
    #[must_use]
    pub fn pidfd(&self, run: Run, pid: i32) -> Option<&OwnedFd> {
        self.main(run).filter(|main| *main == pid).and(self.pidfds.get(&run))
    }

    /// Notes that the run was asked to stop.
    pub fn told_to_stop(&mut self, run: Run) {
        if let Some(live) = self.runs.get_mut(&run) {
            live.told_to_stop = true;
            self.write_down(run);
        }
    }

    fn write_down(&self, run: Run) {
        self.put(run);
        self.ledger.commit();
    }

    /// Puts what is known of a run into the ledger; written with the next commit. After [`RunTable::ended`] that is to be
    /// the one with what the supervisor makes of the news: an end that is written down alone is told to nobody.
    pub fn put(&self, run: Run) {
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
        // Nobody is in it any more, so it goes.
        self.groups.remove(&run);
    }

    /// All processes of the run are in this group, which goes when the run does.
    pub fn confine(&mut self, run: Run, group: Option<Cgroup>) {
        self.groups.extend(group.map(|group| (run, group)));
    }

    /// SIGKILL to all in the run's group.
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

    /// The runs whose main process is alive.
    pub fn running(&mut self) -> impl Iterator<Item = (Run, &mut LiveRun)> {
        self.runs.iter_mut().filter(|(_, live)| !live.exited).map(|(run, live)| (*run, live))
    }

    /// The main process, while it lives.
    #[must_use]
    pub fn main(&self, run: Run) -> Option<i32> {
        self.runs.get(&run).filter(|live| !live.exited).map(|live| live.pid)
    }

    /// Another process of the run's tree stands for it from now on.
    ///
    /// # Errors
    /// In words, if it is none of the tree, or ends this moment.
    pub fn replace_main(&mut self, run: Run, pid: i32) -> Result<(), String> {
        if self.main(run) == Some(pid) {
            return Ok(());
        }
        if !self.tree(run).contains(&pid) {
            return Err("it is none of its processes".to_owned());
        }
        let held = pidfd::open(pid).map_err(|error| error.to_string())?;
        let Some(live) = self.runs.get_mut(&run).filter(|live| !live.exited) else {
            return Err("the one before has ended".to_owned());
        };
        self.mains.remove(&live.pid);
        self.mains.insert(pid, run);
        self.strays.remove(&pid);
        (live.pid, live.start) = (pid, pidfd::start_time(pid).unwrap_or_default());
        self.pidfds.insert(run, held);
        // Its parent may be another than the keeper, who then does not hear of its end.
        self.watch(pid);
        self.write_down(run);
        Ok(())
    }

    /// Children of the keeper's ended. Returns what the supervisor is to know of it. Who is whose is looked up once for
    /// all.
    pub fn reaped(&mut self, dead: &[(i32, Ended)]) -> Vec<Input> {
        let ends: Vec<End> = dead.iter().map(|(pid, ended)| (*pid, Some(*ended))).collect();
        self.ended(&ends)
    }

    /// Processes ended, children of the keeper's or not.
    pub fn ended(&mut self, dead: &[End]) -> Vec<Input> {
        let (mut exits, mut touched) = (Vec::new(), Vec::new());
        for (pid, ended) in dead {
            touched.extend(self.strays.remove(pid));
            if let Some(run) = self.mains.remove(pid) {
                self.pidfds.remove(&run);
                if let Some(live) = self.runs.get_mut(&run) {
                    live.exited = true;
                }
                exits.push((run, exit(*ended, self.groups.get(&run))));
            }
        }
        // Their own children are the keeper's now: they may keep a run alive.
        self.adopt();
        let mut news = Vec::new();
        for (run, exit) in exits {
            let survivors = self.has_strays(run);
            if !survivors {
                self.forget(run);
            }
            news.push(Input::Exited { run, exit, survivors });
        }
        news.extend(touched.into_iter().filter_map(|run| self.emptied(run)));
        news
    }

    fn has_strays(&self, run: Run) -> bool {
        self.strays.values().any(|of| *of == run)
    }

    fn emptied(&mut self, run: Run) -> Option<Input> {
        let gone = self.runs.get(&run).is_some_and(|live| live.exited) && !self.has_strays(run);
        gone.then(|| {
            self.forget(run);
            Input::TreeExited { run }
        })
    }

    /// Every process of the run that can be found, parents before children.
    pub fn tree(&mut self, run: Run) -> Vec<i32> {
        self.adopt();
        let Some(live) = self.runs.get_mut(&run) else { return vec![] };
        let mut roots: Vec<i32> = if live.exited { vec![] } else { vec![live.pid] };
        roots.extend(self.strays.iter().filter(|(_, of)| **of == run).map(|(pid, _)| *pid));
        let mut tree = tree::descendants(&roots);
        let hidden = self
            .groups
            .get(&run)
            .into_iter()
            .flat_map(Cgroup::procs)
            .filter(|pid| ![self.god, self.keeper].contains(pid));
        for pid in hidden {
            if !tree.contains(&pid) {
                tree.push(pid);
            }
        }
        live.seen.clone_from(&tree);
        tree
    }
}

/// In the words of the protocol.
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
