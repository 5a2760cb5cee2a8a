//! What a God must find out about runs that began before him: ends that nobody told of, children that are the keeper's
//! no more, processes that were never written down.

use super::{Live, Living, RUN_VARIABLE};
use crate::os::{pidfd, proc, tree};
use crate::protocol::Run;
use crate::supervisor::Input;

impl Living {
    /// Runs whose last process ended unseen.
    pub fn emptied_unseen(&mut self) -> Vec<Input> {
        self.adopt();
        let exited: Vec<Run> = self.runs.iter().filter(|(_, live)| live.exited).map(|(run, _)| *run).collect();
        exited.into_iter().filter_map(|run| self.emptied(run)).collect()
    }

    /// Main processes that are not there any more, though nobody told of their end.
    #[must_use]
    pub fn gone_unseen(&self) -> Vec<i32> {
        let is_there = |live: &Live| live.stat().is_some_and(|stat| !stat.is_zombie() || stat.parent == self.keeper);
        let gone = self.runs.values().filter(|live| !live.exited && !is_there(live));
        gone.map(|live| live.pid).collect()
    }

    /// Looks for main processes whose parent is not the keeper: nobody else will tell us of their ends.
    pub fn watch_strangers(&mut self) {
        let mains = self.mains.keys().copied();
        let parents: Vec<(i32, i32)> =
            mains.filter_map(|pid| Some((pid, proc::stat(pid)?.parent))).filter(|(_, at)| *at != self.keeper).collect();
        for (pid, parent) in parents {
            self.parents.insert(parent);
            self.watch(pid);
        }
    }

    /// Tells the end of a process that is no child of the keeper's.
    pub(super) fn watch(&self, pid: i32) {
        let ends = self.ends.clone();
        match pidfd::open(pid).and_then(pidfd::watch) {
            // Ends with the process.
            Ok(process) => drop(tokio::task::spawn_local(async move {
                // Nobody hears it any more once God has ended.
                let _ = ends.send((pid, pidfd::ended(&process).await));
            })),
            // It has ended this very moment.
            Err(_) => drop(ends.send((pid, None))),
        }
    }

    /// Children of the keeper that carry a mark of ours, and their runs, but for those that are known.
    #[must_use]
    pub fn marked(&self) -> Vec<(i32, Run)> {
        let unknown = tree::children(self.keeper).into_iter().filter(|pid| !self.mains.contains_key(pid));
        let prefix = format!("{RUN_VARIABLE}={}.", self.lineage);
        let marked = unknown.filter_map(|pid| Some((pid, Run(tree::variable(pid, &prefix)?.parse().ok()?))));
        marked.filter(|(_, run)| !self.runs.contains_key(run)).collect()
    }
}
