//! Finds the run of each orphan that the keeper has adopted. A process that a program started may leave the program's
//! tree, but it still belongs to the run.

use super::{RUN_VARIABLE, RunTable};
use crate::os::cgroup::Membership;
use crate::os::process::{proc, tree};
use crate::protocol::Run;

/// How often the keeper's children are listed at most, in case they start and end all the time.
const MAX_PASSES: u32 = 16;

impl RunTable {
    /// Looks through the children of the keeper for orphans that are not known yet, and finds the run of each.
    pub(crate) fn find_orphans(&mut self) {
        let mut before = Vec::new();
        // A process that ends during a pass leaves its own children to the keeper: repeat until nothing changes.
        for _ in 0..MAX_PASSES {
            let now: Vec<(i32, i32)> = self.parents.iter().flat_map(children).collect();
            if now == before {
                return;
            }
            now.iter().for_each(|(pid, parent)| self.assign(*pid, *parent));
            before = now;
        }
    }

    fn assign(&mut self, pid: i32, parent: i32) {
        // A zombie under another parent than the keeper is left out: that parent reaps it, and no end would be reported.
        if pid != self.god
            && (parent == self.keeper || proc::stat(pid).is_some_and(|stat| !stat.is_zombie()))
            && !self.mains.contains_key(&pid)
            && !self.orphans.contains_key(&pid)
            && let Some(run) = self.run_of(pid).or_else(|| self.run_of_exiting(pid))
        {
            self.orphans.insert(pid, run);
            if parent != self.keeper {
                self.watch(pid);
            }
        }
    }

    /// The run of a process that is exiting. It has released its memory and files already, so its environment and pipes
    /// cannot be read, but it still has its children: their run is its run.
    fn run_of_exiting(&self, pid: i32) -> Option<Run> {
        let exiting = proc::stat(pid).is_some_and(|stat| stat.exiting);
        let tree = exiting.then(|| tree::descendants(&[pid]))?;
        tree.into_iter().skip(1).find_map(|child| self.run_of(child))
    }

    /// The run of a process: by its control group; else by the pids in the tree when it was last collected, by its session
    /// (the main process of each run leads one), by the pipe it writes to, or by the mark in its environment. `None` if
    /// none of the five leads to a run.
    fn run_of(&self, pid: i32) -> Option<Run> {
        let groups = Membership::of(pid);
        if let Some((run, _)) = self.groups.iter().find(|(_, group)| group.holds(&groups)) {
            return Some(*run);
        }
        if let Some((run, _)) = self.runs.iter().find(|(_, live)| live.last_tree.contains(&pid)) {
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

/// The children of a process: pid of each, and the parent's.
fn children(parent: &i32) -> Vec<(i32, i32)> {
    tree::children(*parent).into_iter().map(|pid| (pid, *parent)).collect()
}
