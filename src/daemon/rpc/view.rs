//! What clients see of processes: rows of the list, and everything about one process.

use std::collections::HashMap;

use super::super::clusters::Clusters;
use super::super::launch::environment::Setting;
use super::super::launch::{Launcher, environment};
use super::super::moment;
use super::super::runs::Runs;
use super::super::runs::table::{LiveRun, RunTable};
use crate::cluster::Cluster;
use crate::os::clock;
use crate::os::process::proc;
use crate::protocol::{Description, ProcessInfo, Refusal, Run, Status};
use crate::spec::target::Selector;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{Process, ProcessId, State, Supervisor};

/// Processor time is averaged over at least this many milliseconds, so that two readings in a row do not show noise.
const SHORTEST_AVERAGE: u64 = 200;

/// Processor percent and resident bytes of the trees of runs.
type Usage = HashMap<Run, (f32, u64)>;

/// Everything that is shown, as it is at one moment.
pub(crate) struct View<'a> {
    supervisor: &'a Supervisor,
    runs: &'a Runs,
    clusters: &'a Clusters,
    launcher: &'a Launcher,
    /// `process.version` of the current runs that reported it.
    node_versions: &'a HashMap<ProcessId, String>,
    usage: Usage,
}

impl<'a> View<'a> {
    /// Reads the usage of all runs now, and notes in their table when that was.
    pub fn new(
        supervisor: &'a Supervisor,
        runs: &'a mut Runs,
        clusters: &'a Clusters,
        launcher: &'a Launcher,
        node_versions: &'a HashMap<ProcessId, String>,
    ) -> View<'a> {
        let usage = usage(&mut runs.table);
        View { supervisor, runs, clusters, launcher, node_versions, usage }
    }

    /// All processes, by id.
    pub fn list(&self) -> Vec<ProcessInfo> {
        self.supervisor.processes().filter_map(|process| self.info(process)).collect()
    }

    /// Everything about the processes selected.
    pub fn describe(&self, target: &[Selector]) -> Result<Vec<Description>, Refusal> {
        let ids = self.supervisor.select(target)?;
        let processes = ids.iter().filter_map(|id| self.supervisor.process(*id));
        Ok(processes.filter_map(|process| self.description(process)).collect())
    }

    fn description(&self, process: &Process) -> Option<Description> {
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, pid_file) = environment::files(&self.launcher.home, spec, process);
        let (home, now) = (self.launcher.home.root(), process.started.map_or(0, moment::wall));
        let setting = Setting { spec, process, home, logs: &logs, pid_file: &pid_file, now };
        let cluster = self.clusters.get(process.app);
        let run = process.current_run();
        Some(Description {
            info: self.info(process)?,
            spec: AppSpec::clone(spec),
            own_env: environment::own(&setting),
            pid_file: pid_file.clone(),
            listeners: cluster.map(Cluster::listeners).unwrap_or_default(),
            connections: cluster.zip(run).map_or(0, |(cluster, run)| cluster.connections(run)),
            load: cluster.zip(run).and_then(|(cluster, run)| cluster.load(run)),
            obstacle: self.obstacle(spec),
            node_version: self.node_versions.get(&process.id).cloned(),
            says: run.and_then(|run| self.runs.notifications.report(run)),
            under_way: self.supervisor.under_way(moment::now(), process),
        })
    }

    /// Why the app's workers do not share their ports, if they should and cannot.
    fn obstacle(&self, spec: &AppSpec) -> Option<String> {
        match spec.mechanism() {
            Mechanism::BindInterception => self.launcher.bind_watches.obstacle().map(str::to_owned),
            Mechanism::None | Mechanism::Node | Mechanism::Activation => None,
        }
    }

    fn info(&self, process: &Process) -> Option<ProcessInfo> {
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, _) = environment::files(&self.launcher.home, spec, process);
        let run = process.current_run();
        let held = self.supervisor.waits_for(process);
        let (cpu, memory) = run.and_then(|run| self.usage.get(&run)).copied().unwrap_or_default();
        Some(ProcessInfo {
            id: process.id.0,
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            instance: process.instance,
            mode: spec.mode,
            version: spec.version.clone(),
            pid: run.and_then(|run| self.runs.table.main(run)),
            status: status(process, held.is_some()),
            restarts: process.restarts,
            unstable_restarts: process.history.unstable(),
            started_at: process.started.map(moment::wall),
            created_at: moment::wall(process.created),
            fault: process.health.fault().map(str::to_owned),
            out_of_rotation: run.is_some_and(|run| self.supervisor.is_ejected(run)),
            last_exit: process.last_exit,
            reason: held.or_else(|| process.reason.clone()),
            memory,
            cpu,
            user: spec.confinement.user.as_ref().unwrap_or(&self.launcher.user).clone(),
            out_log: logs.out,
            err_log: logs.err,
        })
    }
}

/// Reads `/proc` once for all runs.
fn usage(table: &mut RunTable) -> Usage {
    let roots: Vec<i32> = table.running().map(|(_, live)| live.pid).collect();
    if roots.is_empty() {
        return Usage::new();
    }
    let sums = proc::usage(&roots);
    let now = clock::monotonic_ms();
    let mut usage = Usage::new();
    for (run, live) in table.running() {
        let (ticks, resident) = sums.get(&live.pid).copied().unwrap_or_default();
        usage.insert(run, (percent(live, ticks, now), resident));
    }
    usage
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

/// The status that is shown of the supervisor's state; `held` if an operation on the process waits for other apps.
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
