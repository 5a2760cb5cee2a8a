//! What is told about processes: rows of the list, and everything about one.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::super::disk::dump::SavedList;
use super::super::disk::journal::JournalState;
use super::super::god::{God, moment, wall};
use super::super::launch::environment;
use super::super::launch::environment::Setting;
use super::super::runs::table::LiveRun;
use crate::os::clock;
use crate::os::process::proc;
use crate::protocol::{DaemonWarnings, Description, ProcessInfo, Refusal, Run, Status, Unwritten};
use crate::spec::target::Selector;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{Process, State};

/// Processor time is averaged over at least this long, in milliseconds, so that two readings in a row do not show
/// noise.
const SHORTEST_AVERAGE: u64 = 200;

/// Processor percent and resident bytes of a run's tree.
type Usage = HashMap<Run, (f32, u64)>;

impl God {
    /// All processes, by id.
    pub(crate) fn list(&mut self) -> Vec<ProcessInfo> {
        let usage = self.usage();
        self.supervisor.processes().filter_map(|process| self.info(process, &usage)).collect()
    }

    /// Everything about the processes named.
    pub(crate) fn describe(&mut self, target: &[Selector]) -> Result<Vec<Description>, Refusal> {
        let usage = self.usage();
        let ids = self.supervisor.select(target)?;
        let processes = ids.iter().filter_map(|id| self.supervisor.process(*id));
        Ok(processes.filter_map(|process| self.description(process, &usage)).collect())
    }

    /// What an operator should know about the daemon itself.
    pub(crate) fn standing(&mut self) -> DaemonWarnings {
        let unwritten = match self.resources.journal.state() {
            JournalState::Whole => None,
            JournalState::Broken { error, since } => {
                Some(Unwritten { path: self.resources.journal.path().to_owned(), error, since })
            }
        };
        let saved = *self.resources.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // On the way down nothing is wanted as it was.
        let saved = saved.filter(|_| !self.supervisor.is_closing());
        let other = |saved: &SavedList| saved.fingerprint != self.fingerprints.of(&self.supervisor);
        DaemonWarnings { unwritten, unsaved: saved.filter(other).map(|saved| saved.at) }
    }

    fn description(&self, process: &Process, usage: &Usage) -> Option<Description> {
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, pid_file) = environment::files(&self.resources.home, spec, process);
        let (home, now) = (self.resources.home.root(), process.started.map_or(0, wall));
        let setting = Setting { spec, process, home, logs: &logs, pid_file: &pid_file, now };
        let cluster = self.clusters.get(&process.app);
        let run = process.current_run();
        Some(Description {
            info: self.info(process, usage)?,
            spec: AppSpec::clone(spec),
            own_env: environment::own(&setting),
            pid_file: pid_file.clone(),
            listeners: cluster.map(crate::cluster::Cluster::listeners).unwrap_or_default(),
            connections: cluster.zip(run).map_or(0, |(cluster, run)| cluster.connections(run)),
            load: cluster.zip(run).and_then(|(cluster, run)| cluster.load(run)),
            obstacle: self.obstacle(spec),
            node_version: self.node_versions.get(&process.id).cloned(),
            says: run.and_then(|run| self.notifications.says(run)),
            under_way: self.supervisor.under_way(moment(), process),
        })
    }

    /// Why its workers do not share as they should, if they do not.
    fn obstacle(&self, spec: &AppSpec) -> Option<String> {
        match spec.mechanism() {
            Mechanism::BindInterception => self.bind_watches.obstacle().map(str::to_owned),
            Mechanism::None | Mechanism::Node | Mechanism::Activation => None,
        }
    }

    fn info(&self, process: &Process, usage: &Usage) -> Option<ProcessInfo> {
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, _) = environment::files(&self.resources.home, spec, process);
        let run = process.current_run();
        let held = self.supervisor.waits_for(process);
        let (cpu, memory) = run.and_then(|run| usage.get(&run)).copied().unwrap_or_default();
        Some(ProcessInfo {
            id: process.id.0,
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            instance: process.instance,
            mode: spec.mode,
            version: spec.version.clone(),
            pid: run.and_then(|run| self.runs.main(run)),
            status: status(process, held.is_some()),
            restarts: process.restarts,
            unstable_restarts: process.history.unstable(),
            started_at: process.started.map(wall),
            created_at: wall(process.created),
            fault: process.health.fault().map(str::to_owned),
            out_of_rotation: run.is_some_and(|run| self.supervisor.is_ejected(run)),
            last_exit: process.last_exit,
            reason: held.or_else(|| process.reason.clone()),
            memory,
            cpu,
            user: spec.confinement.user.as_ref().unwrap_or(&self.resources.user).clone(),
            out_log: logs.out,
            err_log: logs.err,
        })
    }

    /// Reads `/proc` once for all.
    fn usage(&mut self) -> Usage {
        let roots: Vec<i32> = self.runs.running().map(|(_, live)| live.pid).collect();
        if roots.is_empty() {
            return Usage::new();
        }
        let sums = proc::usage(&roots);
        let now = clock::monotonic_ms();
        let mut usage = Usage::new();
        for (run, live) in self.runs.running() {
            let (ticks, resident) = sums.get(&live.pid).copied().unwrap_or_default();
            usage.insert(run, (percent(live, ticks, now), resident));
        }
        usage
    }
}

/// Percent of one processor since the reading before; the first time, since the process started.
fn percent(live: &mut LiveRun, ticks: u64, now: u64) -> f32 {
    let (before, at, _) = live.last_usage.unwrap_or((0, live.started, 0.0));
    let span = now.saturating_sub(at);
    if span < SHORTEST_AVERAGE {
        return live.last_usage.map_or(0.0, |(_, _, percent)| percent);
    }
    let used_ms = ticks.saturating_sub(before) * 1000 / proc::ticks_per_second();
    let percent = (used_ms as f32 * 1000.0 / span as f32).round() / 10.0;
    live.last_usage = Some((ticks, now, percent));
    percent
}

/// What people see, from the supervisor's state; `held` if something asked for waits for other apps.
fn status(process: &Process, held: bool) -> Status {
    match &process.state {
        State::Stopped | State::Errored if held => Status::Waiting,
        State::Stopped if process.completed => Status::Completed,
        State::Stopped => Status::Stopped,
        State::Launching { old: Some(_), .. } | State::Canary { .. } | State::Online(_) => match process.is_unhealthy()
        {
            true => Status::Unhealthy,
            false => Status::Online,
        },
        State::Launching { .. } => Status::Launching,
        State::Stopping(_) => Status::Stopping,
        State::Waiting { .. } => Status::WaitingRestart,
        State::Idle => Status::Idle,
        State::Errored => Status::Errored,
    }
}
