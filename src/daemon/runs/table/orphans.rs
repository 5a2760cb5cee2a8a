//! Whose the processes are that come to the keeper as orphans: what a program starts may leave its tree, and no run.

use super::{RUN_VARIABLE, RunTable};
use crate::os::cgroup::Membership;
use crate::os::process::{proc, tree};
use crate::protocol::Run;

/// How often the keeper's children are looked at, at most, where they come and go all the time.
const LOOKS: u32 = 16;

impl RunTable {
    /// Finds out whose the children are that came to the keeper as orphans.
    pub(crate) fn adopt(&mut self) {
        let mut before = Vec::new();
        // While one ends, its own children come to the keeper: until a look finds no others than the one before.
        for _ in 0..LOOKS {
            let now: Vec<(i32, i32)> = self.parents.iter().flat_map(children).collect();
            if now == before {
                return;
            }
            now.iter().for_each(|(pid, parent)| self.claim(*pid, *parent));
            before = now;
        }
    }

    fn claim(&mut self, pid: i32, parent: i32) {
        // What ended under another parent than the keeper is that one's to bury.
        if pid != self.god
            && (parent == self.keeper || proc::stat(pid).is_some_and(|stat| !stat.is_zombie()))
            && !self.mains.contains_key(&pid)
            && !self.strays.contains_key(&pid)
            && let Some(run) = self.owner(pid).or_else(|| self.owner_of_parting(pid))
        {
            self.strays.insert(pid, run);
            if parent != self.keeper {
                self.watch(pid);
            }
        }
    }

    /// One on its way out has lost its memory and files already, by which it could be told, and has its children still.
    fn owner_of_parting(&self, pid: i32) -> Option<Run> {
        let parting = proc::stat(pid).is_some_and(|stat| stat.exiting);
        let below = parting.then(|| tree::descendants(&[pid]))?;
        below.into_iter().skip(1).find_map(|child| self.owner(child))
    }

    /// By its group, and where there is none by what was seen of trees, by session (every run leads one), by the pipe
    /// it writes to, or by the mark in its environment. One that shed all five cannot be told.
    fn owner(&self, pid: i32) -> Option<Run> {
        let groups = Membership::of(pid);
        if let Some((run, _)) = self.groups.iter().find(|(_, group)| group.holds(&groups)) {
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

fn children(parent: &i32) -> Vec<(i32, i32)> {
    tree::children(*parent).into_iter().map(|pid| (pid, *parent)).collect()
}
