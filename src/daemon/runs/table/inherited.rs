//! What a God must find out about runs that began before him: ends that nobody told of, children that are the keeper's
//! no more, processes that were never written down.

use super::{CHECK_VARIABLE, LiveRun, RUN_VARIABLE, RunTable};
use crate::keeper::Records;
use crate::os::process::{pidfd, proc, tree};
use crate::protocol::Run;
use crate::supervisor::Input;

/// Key of the record of who has children of ours beside the keeper.
const PARENTS: &str = "parents";

impl RunTable {
    /// Runs whose last process ended unseen.
    pub fn emptied_unseen(&mut self) -> Vec<Input> {
        self.adopt();
        let exited: Vec<Run> = self.runs.iter().filter(|(_, live)| live.exited).map(|(run, _)| *run).collect();
        exited.into_iter().filter_map(|run| self.emptied(run)).collect()
    }

    /// Main processes that are not there any more, though nobody told of their end.
    #[must_use]
    pub fn gone_unseen(&self) -> Vec<i32> {
        let is_there = |live: &LiveRun| live.stat().is_some_and(|stat| !stat.is_zombie() || stat.parent == self.keeper);
        let gone = self.runs.values().filter(|live| !live.exited && !is_there(live));
        gone.map(|live| live.pid).collect()
    }

    /// Finds out whose the children of keepers that died are now: of whom they were known to be, of the parents of main
    /// processes, and if the last keeper has died (`orphaned`), of the present one's parent, for he was the last one's
    /// child, too. To be called before any end is looked into: what a main process left behind is found there.
    pub fn find_parents(&mut self, records: &Records, orphaned: bool) {
        let known = records.get(PARENTS).and_then(|json| serde_json::from_str::<Vec<i32>>(json).ok());
        self.parents.extend(known.into_iter().flatten());
        let of_mains = self.mains.keys().filter_map(|pid| Some(proc::stat(*pid)?.parent));
        let of_keeper = orphaned.then(|| proc::stat(self.keeper).map(|stat| stat.parent)).flatten();
        let found: Vec<i32> = of_mains.chain(of_keeper).collect();
        self.parents.extend(found);
        let others: Vec<&i32> = self.parents.iter().filter(|parent| **parent != self.keeper).collect();
        if let (false, Ok(json)) = (others.is_empty(), serde_json::to_string(&others)) {
            self.ledger.put(PARENTS, &json);
            self.ledger.commit();
        }
    }

    /// Watches main processes whose parent is not the keeper: nobody else will tell us of their ends.
    pub fn watch_strangers(&self) {
        let parent = |pid: &i32| proc::stat(*pid).map(|stat| stat.parent);
        let strangers = self.mains.keys().filter(|pid| parent(pid).is_some_and(|parent| parent != self.keeper));
        strangers.for_each(|pid| self.watch(*pid));
    }

    /// The keeper died, and nobody takes his place: who looked after his children is found, and all ends are for us to
    /// notice from now on.
    pub fn go_alone(&mut self) {
        self.alone = true;
        self.parents.extend(proc::stat(self.god).map(|god| god.parent));
        self.watch_strangers();
    }

    /// Tells the end of a process that is no child of the keeper's.
    pub(crate) fn watch(&self, pid: i32) {
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

    /// Children of the keeper, or of who has adopted them, that carry a mark of ours, and their runs, but for those that
    /// are known.
    #[must_use]
    pub fn marked(&self) -> Vec<(i32, Run)> {
        self.bearers(RUN_VARIABLE).filter(|(_, run)| !self.runs.contains_key(run)).collect()
    }

    /// What is left of checks of a God before: processes that outlived the command which started them, or God.
    #[must_use]
    pub fn checks(&self) -> Vec<i32> {
        self.bearers(CHECK_VARIABLE).map(|(pid, _)| pid).collect()
    }

    /// Children of the keeper, or of who has adopted them, that are no main process of ours and have this mark of ours.
    fn bearers(&self, variable: &str) -> impl Iterator<Item = (i32, Run)> {
        let children = self.parents.iter().flat_map(|parent| tree::children(*parent));
        let unknown = children.filter(|pid| !self.mains.contains_key(pid));
        let prefix = format!("{variable}={}.", self.lineage);
        unknown.filter_map(move |pid| Some((pid, Run(tree::variable(pid, &prefix)?.parse().ok()?))))
    }
}
