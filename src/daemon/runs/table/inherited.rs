//! What a God must find out about runs that an earlier God started: ends that were not reported to any God, processes
//! whose parent is no longer the keeper, and processes that are in no record.

use super::{CHECK_VARIABLE, LiveRun, RUN_VARIABLE, RunTable};
use crate::keeper::Records;
use crate::os::process::{pidfd, proc, tree};
use crate::protocol::Run;
use crate::supervisor::Input;

/// Key of the record with the pids in `RunTable::parents` other than the keeper's.
const PARENTS: &str = "parents";

impl RunTable {
    /// Runs whose last process ended without a report. The main process was reaped by an earlier God.
    pub fn unreported_tree_exits(&mut self) -> Vec<Input> {
        self.find_orphans();
        let exited: Vec<Run> = self.runs.iter().filter(|(_, live)| live.exited).map(|(run, _)| *run).collect();
        exited.into_iter().filter_map(|run| self.tree_exited(run)).collect()
    }

    /// Pids of main processes that do not exist any more, though no end was reported. A zombie of the keeper does not
    /// count, since the keeper will report its end.
    #[must_use]
    pub fn unreported_exits(&self) -> Vec<i32> {
        let exists = |live: &LiveRun| live.stat().is_some_and(|stat| !stat.is_zombie() || stat.parent == self.keeper);
        let ended = self.runs.values().filter(|live| !live.exited && !exists(live));
        ended.map(|live| live.pid).collect()
    }

    /// Finds the processes that adopted the children of keepers that died: those in the record, the parents of main
    /// processes, and if the last keeper has died (`keeper_died`) the parent of the present keeper, which was a child of
    /// the last keeper, too. Must be called before any end is handled: survivors of a main process are found among the
    /// children of these parents.
    pub fn find_parents(&mut self, records: &Records, keeper_died: bool) {
        let known = records.get(PARENTS).and_then(|json| serde_json::from_str::<Vec<i32>>(json).ok());
        self.parents.extend(known.into_iter().flatten());
        let of_mains = self.mains.keys().filter_map(|pid| Some(proc::stat(*pid)?.parent));
        let of_keeper = keeper_died.then(|| proc::stat(self.keeper).map(|stat| stat.parent)).flatten();
        let found: Vec<i32> = of_mains.chain(of_keeper).collect();
        self.parents.extend(found);
        let others: Vec<&i32> = self.parents.iter().filter(|parent| **parent != self.keeper).collect();
        if let (false, Ok(json)) = (others.is_empty(), serde_json::to_string(&others)) {
            self.ledger.put(PARENTS, &json);
            self.ledger.commit();
        }
    }

    /// Watches the main processes whose parent is not the keeper, since the keeper does not report their ends.
    pub fn watch_foreign_children(&self) {
        let parent = |pid: &i32| proc::stat(*pid).map(|stat| stat.parent);
        let foreign = self.mains.keys().filter(|pid| parent(pid).is_some_and(|parent| parent != self.keeper));
        foreign.for_each(|pid| self.watch(*pid));
    }

    /// The keeper died and could not be replaced. The process that adopted its children is found (it adopted God, too),
    /// and all main processes are watched from now on.
    pub fn continue_without_keeper(&mut self) {
        self.without_keeper = true;
        self.parents.extend(proc::stat(self.god).map(|god| god.parent));
        self.watch_foreign_children();
    }

    /// Reports the end of a process that is no child of the keeper to God.
    pub(crate) fn watch(&self, pid: i32) {
        let ends = self.ends.clone();
        match pidfd::open(pid).and_then(pidfd::watch) {
            // Ends with the process.
            Ok(process) => drop(tokio::task::spawn_local(async move {
                // Fails once God has ended.
                let _ = ends.send((pid, pidfd::ended(&process).await));
            })),
            // The process has ended already.
            Err(_) => drop(ends.send((pid, None))),
        }
    }

    /// Processes whose environment names a run of this lineage that is not in the table: pid and run.
    #[must_use]
    pub fn of_unknown_runs(&self) -> Vec<(i32, Run)> {
        self.with_mark(RUN_VARIABLE).filter(|(_, run)| !self.runs.contains_key(run)).collect()
    }

    /// Pids of processes that health checks of an earlier God left: they outlived the command that started them, or God.
    #[must_use]
    pub fn leftover_checks(&self) -> Vec<i32> {
        self.with_mark(CHECK_VARIABLE).map(|(pid, _)| pid).collect()
    }

    /// Children of `parents` that are no main process and in whose environment `variable` has a mark of this lineage: pid
    /// and run.
    fn with_mark(&self, variable: &str) -> impl Iterator<Item = (i32, Run)> {
        let children = self.parents.iter().flat_map(|parent| tree::children(*parent));
        let unknown = children.filter(|pid| !self.mains.contains_key(pid));
        let prefix = format!("{variable}={}.", self.lineage);
        unknown.filter_map(move |pid| Some((pid, Run(tree::variable(pid, &prefix)?.parse().ok()?))))
    }
}
