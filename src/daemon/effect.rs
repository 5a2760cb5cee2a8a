//! Carries out what the supervisor decides, one short function an effect.

use std::path::PathBuf;

use super::god::{God, Reply};
use super::launch::environment;
use crate::cluster::Cluster;
use crate::os::killpoint;
use crate::os::process::{pidfd, proc, tree};
use crate::protocol::{Refusal, Report, ReportLine, Run, Verdict};
use crate::spec::signal;
use crate::spec::target::Selector;
use crate::supervisor::{AppId, Effect, Input, ProcessId};

/// A kill is repeated until it finds nothing new, in case the tree grows meanwhile; this often at most.
const KILL_ROUNDS: usize = 10;

impl God {
    /// Carries out one effect and returns what the supervisor is to know of it at once.
    pub(crate) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        if let Effect::Drain { run, .. } | Effect::Terminate { run } = effect {
            self.checks.end(run);
        }
        match effect {
            Effect::Spawn { run, process } => return Some(self.spawn(run, process)),
            Effect::Admit { run } => {
                if let Some(cluster) = self.cluster_of(run) {
                    cluster.admit(run);
                }
            }
            Effect::Eject { run } => {
                if let Some(cluster) = self.cluster_of(run) {
                    cluster.eject(run);
                }
            }
            Effect::Drain { run, grace } => match self.cluster_of(run) {
                Some(cluster) => cluster.drain(run, grace),
                None => return Some(Input::Drained { run }),
            },
            Effect::Terminate { run } => self.terminate(run),
            Effect::Kill { run } => self.kill(run),
            Effect::Signal { run, signal } => {
                if let Some(pid) = self.runs.main(run) {
                    self.send(run, pid, signal);
                }
            }
            Effect::ProcessRemoved { process } => {
                self.node_versions.remove(&process);
                self.told_of.remove(&process);
            }
            Effect::CloseListeners { app } | Effect::AppRemoved { app } => self.close_cluster(app),
            Effect::Serve { run } => self.serve(run),
            Effect::UpdatePidFile { process } => self.note_pid(process),
            Effect::WatchForDemand { app } => return self.watch_for_demand(app),
            Effect::Publish { process, kind } => self.publish(process, kind),
            Effect::Settle { ticket, answer } => self.settle(ticket, answer),
        }
        None
    }

    // End.

    pub(crate) fn cluster_of(&self, run: Run) -> Option<&Cluster> {
        self.clusters.get(&self.runs.get(run)?.app)
    }

    /// Nothing new goes to this run.
    pub(crate) fn exclude(&self, run: Run) {
        if let Some(cluster) = self.cluster_of(run) {
            cluster.exclude(run);
        }
    }

    fn close_cluster(&mut self, app: AppId) {
        if let Some(cluster) = self.clusters.remove(&app) {
            cluster.close();
        }
    }

    /// Out of rotation first, then the stop signal to the whole tree, deepest first.
    fn terminate(&mut self, run: Run) {
        killpoint::pass("terminating");
        self.runs.told_to_stop(run);
        killpoint::pass("told-to-stop");
        self.exclude(run);
        let stop = self.supervisor.process_of(run).and_then(|process| self.supervisor.app(process.app));
        let (by_message, whole) = stop.map_or((false, true), |app| (app.spec.stop.with_message, app.spec.stop.tree));
        let main = self.runs.main(run);
        if let (true, Some(_), Some(cluster)) = (by_message, main, self.cluster_of(run)) {
            cluster.send(run, &serde_json::Value::from("shutdown"));
            return;
        }
        let tree = self.runs.tree(run);
        for pid in tree.iter().rev().filter(|pid| whole || main.is_none_or(|main| main == **pid)) {
            self.send(run, *pid, signal::INT);
        }
    }

    /// The signal, then SIGCONT: a paused process can only then act on it. To the main process by a descriptor that
    /// never means another; the rest of a tree was looked at just now.
    fn send(&self, run: Run, pid: i32, number: i32) {
        let deliver = |number| match self.runs.pidfd(run, pid) {
            Some(process) => pidfd::signal(process, number),
            None => tree::signal(pid, number),
        };
        let outcome = deliver(number);
        let outcome = if number == signal::INT { outcome.and_then(|()| deliver(libc::SIGCONT)) } else { outcome };
        if let Err(error) = outcome {
            tracing::warn!("{} to {pid}: {error}", signal::name(number));
        }
    }

    fn kill(&mut self, run: Run) {
        self.runs.kill_group(run);
        let mut killed = Vec::new();
        for _ in 0..KILL_ROUNDS {
            // The dead stay in the tree until they are reaped.
            let fresh: Vec<i32> = self.runs.tree(run).into_iter().filter(|pid| !killed.contains(pid)).collect();
            if fresh.is_empty() {
                return;
            }
            for pid in &fresh {
                self.send(run, *pid, signal::KILL);
            }
            killed.extend(fresh);
        }
    }

    /// The main process of a run was reaped.
    pub(crate) fn buried(&mut self, run: Run) {
        self.checks.end(run);
        self.stderr_rates.forget(run);
        let Some(process) = self.supervisor.process_of(run) else { return };
        if let Some(cluster) = self.clusters.get(&process.app) {
            cluster.gone(run);
        }
        self.note_pid(process.id);
    }

    /// Keeps the pid file of a process true: it names the main process that answers for it, or does not exist.
    pub(crate) fn note_pid(&self, id: ProcessId) {
        let Some(process) = self.supervisor.process(id) else { return };
        let Some(app) = self.supervisor.app(process.app) else { return };
        let (_, path) = environment::files(&self.resources.home, &app.spec, process);
        self.resources.pid_files.note(path, process.current_run().and_then(|run| self.runs.main(run)));
    }

    // Limits.

    /// True if memory is to be measured.
    pub(crate) fn has_limits(&self) -> bool {
        self.supervisor.apps().any(|app| app.spec.restart.max_memory.is_some())
    }

    /// Measures the trees of all runs.
    pub(crate) fn sample(&mut self) {
        let roots: Vec<(Run, i32)> = self.runs.running().map(|(run, live)| (run, live.pid)).collect();
        let usage = proc::usage(&roots.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
        for (run, pid) in roots {
            let memory = usage.get(&pid).map_or(0, |(_, resident)| *resident);
            self.input(Input::Sampled { run, memory });
        }
    }

    // Log files.

    pub(crate) fn flush_logs(&mut self, target: &[Selector], reply: Reply) {
        let ids = match self.supervisor.select(target) {
            Ok(ids) => ids,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let mut report = Report::default();
        let mut paths: Vec<PathBuf> = Vec::new();
        for process in ids.iter().filter_map(|id| self.supervisor.process(*id)) {
            let Some(app) = self.supervisor.app(process.app) else { continue };
            let (logs, _) = environment::files(&self.resources.home, &app.spec, process);
            paths.extend(logs.out.into_iter().chain(logs.err));
            let (name, verb) = (app.spec.name.clone(), "flush".to_owned());
            report.lines.push(ReportLine { id: process.id.0, name, verb, verdict: Verdict::Done });
        }
        let logs = self.resources.logs.clone();
        // Ends when the files are flushed; a client that left does not matter.
        tokio::task::spawn_local(async move {
            let flushed = logs.flush(&paths).await;
            let _ = reply.send(flushed.map(|()| report).map_err(|(path, error)| Refusal::Failed {
                doing: format!("truncating {}", path.display()),
                error: error.to_string(),
            }));
        });
    }

    pub(crate) fn reopen_logs(&mut self, reply: Option<Reply>) {
        let logs = self.resources.logs.clone();
        tokio::task::spawn_local(async move {
            logs.reopen_all().await;
            if let Some(reply) = reply {
                let _ = reply.send(Ok(Report::default()));
            }
        });
    }
}
