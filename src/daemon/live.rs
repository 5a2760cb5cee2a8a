//! The runs that are alive: their pids, their trees, and who among our children belongs to whom.
//!
//! God adopts orphans, so when a process of a run's tree loses its parent it becomes our child. A run's tree is gone
//! exactly when its main process has been reaped and no child of ours belongs to it: any survivor's topmost living
//! ancestor would be one. No tree is ever polled.

use std::collections::HashMap;

use crate::os::cgroup::{Cgroup, Membership};
use crate::os::reap::Ended;
use crate::os::{clock, proc, tree};
use crate::protocol::{Exit, Run};
use crate::supervisor::{AppId, Input};

/// The variable that marks every process of a run, unless a program cleans its environment.
pub const RUN_VARIABLE: &str = "PMR_RUN";

/// A run whose main process, or something of its tree, is alive.
#[derive(Debug)]
pub struct Live {
    /// Pid of the main process.
    pub pid: i32,
    /// Whose app.
    pub app: AppId,
    /// True once the main process has been reaped.
    exited: bool,
    /// Inodes of the pipes its output goes through.
    pipes: [u64; 2],
    /// Where all its processes are, if the machine has such groups.
    group: Option<Cgroup>,
    /// What else was in the tree when it was last looked at.
    seen: Vec<i32>,
    /// The last reading of its processor time: clock ticks, when (monotonic ms), and the percentage it gave.
    pub last_usage: Option<(u64, u64, f32)>,
    /// When it was started, in ms of the monotonic clock.
    pub started: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Living {
    runs: HashMap<Run, Live>,
    mains: HashMap<i32, Run>,
    /// Children of ours that are no main process, and whose tree they belong to.
    strays: HashMap<i32, Run>,
    /// Our own pid: environments of different daemons must not be confused.
    daemon: i32,
}

impl Living {
    /// For the daemon with this pid.
    #[must_use]
    pub fn new(daemon: i32) -> Living {
        Living { daemon, ..Living::default() }
    }

    /// What [`RUN_VARIABLE`] holds for this run.
    #[must_use]
    pub fn mark(&self, run: Run) -> String {
        format!("{}.{}", self.daemon, run.0)
    }

    /// A run began.
    pub fn insert(&mut self, run: Run, pid: i32, app: AppId, pipes: [u64; 2]) {
        self.mains.insert(pid, run);
        self.runs.insert(
            run,
            Live {
                pid,
                app,
                exited: false,
                pipes,
                group: None,
                seen: vec![],
                last_usage: None,
                started: clock::monotonic_ms(),
            },
        );
    }

    /// All processes of the run are in this group, which goes when the run does.
    pub fn confine(&mut self, run: Run, group: Option<Cgroup>) {
        if let Some(live) = self.runs.get_mut(&run) {
            live.group = group;
        }
    }

    /// SIGKILL to all in the run's group.
    pub fn kill_group(&self, run: Run) {
        if let Some(group) = self.runs.get(&run).and_then(|live| live.group.as_ref()) {
            group.kill();
        }
    }

    /// A run that is alive.
    #[must_use]
    pub fn get(&self, run: Run) -> Option<&Live> {
        self.runs.get(&run)
    }

    /// The runs whose main process is alive.
    pub fn running(&mut self) -> impl Iterator<Item = (Run, &mut Live)> {
        self.runs.iter_mut().filter(|(_, live)| !live.exited).map(|(run, live)| (*run, live))
    }

    /// The main process, while it lives.
    #[must_use]
    pub fn main(&self, run: Run) -> Option<i32> {
        self.runs.get(&run).filter(|live| !live.exited).map(|live| live.pid)
    }

    /// Children of ours ended. Returns what the supervisor is to know of it. Who is whose is looked up once for all.
    pub fn reaped(&mut self, dead: &[(i32, Ended)]) -> Vec<Input> {
        let (mut exits, mut touched) = (Vec::new(), Vec::new());
        for (pid, ended) in dead {
            touched.extend(self.strays.remove(pid));
            if let Some(run) = self.mains.remove(pid) {
                let Some(live) = self.runs.get_mut(&run) else { continue };
                live.exited = true;
                exits.push((run, exit(*ended, live.group.as_ref())));
            }
        }
        // Their own children are ours now: they may keep a run alive.
        self.adopt();
        let mut news = Vec::new();
        for (run, exit) in exits {
            let survivors = self.has_strays(run);
            if !survivors {
                self.runs.remove(&run);
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
            self.runs.remove(&run);
            Input::Emptied { run }
        })
    }

    /// Every process of the run that can be found, parents before children.
    pub fn tree(&mut self, run: Run) -> Vec<i32> {
        self.adopt();
        let Some(live) = self.runs.get_mut(&run) else { return vec![] };
        let mut roots: Vec<i32> = if live.exited { vec![] } else { vec![live.pid] };
        roots.extend(self.strays.iter().filter(|(_, of)| **of == run).map(|(pid, _)| *pid));
        let mut tree = tree::descendants(&roots);
        let hidden = live.group.iter().flat_map(Cgroup::procs).filter(|pid| *pid != self.daemon);
        for pid in hidden {
            if !tree.contains(&pid) {
                tree.push(pid);
            }
        }
        live.seen.clone_from(&tree);
        tree
    }

    /// Finds out whose the children are that came to us as orphans.
    fn adopt(&mut self) {
        for pid in tree::children(self.daemon) {
            if !self.mains.contains_key(&pid)
                && !self.strays.contains_key(&pid)
                && let Some(run) = self.owner(pid)
            {
                self.strays.insert(pid, run);
            }
        }
    }

    /// By its group, and where there is none by what was seen of trees, by session (every run leads one), by the pipe
    /// it writes to, or by the mark in its environment. One that shed all five cannot be told.
    fn owner(&self, pid: i32) -> Option<Run> {
        let groups = Membership::of(pid);
        let is_member = |live: &Live| live.group.as_ref().is_some_and(|group| group.holds(&groups));
        if let Some((run, _)) = self.runs.iter().find(|(_, live)| is_member(live)) {
            return Some(*run);
        }
        if let Some((run, _)) = self.runs.iter().find(|(_, live)| live.seen.contains(&pid)) {
            return Some(*run);
        }
        let session = proc::stat(pid)?.session;
        if let Some((run, _)) = self.runs.iter().find(|(_, live)| live.pid == session) {
            return Some(*run);
        }
        if let Some((run, _)) = self.runs.iter().find(|(_, live)| tree::writes_to(pid, live.pipes)) {
            return Some(*run);
        }
        self.runs.keys().copied().find(|run| tree::has_variable(pid, &format!("{RUN_VARIABLE}={}", self.mark(*run))))
    }
}

fn exit(ended: Ended, group: Option<&Cgroup>) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal(libc::SIGKILL) => {
            match group.filter(|group| group.oom_kills() > 0).and_then(Cgroup::memory_limit) {
                Some(limit) => Exit::OutOfMemory { limit },
                None => Exit::Signal(libc::SIGKILL),
            }
        }
        Ended::Signal(number) => Exit::Signal(number),
    }
}
