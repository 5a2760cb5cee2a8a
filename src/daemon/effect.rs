//! Carries out what the supervisor decides, one short function an effect.

use std::collections::HashSet;
use std::sync::Arc;

use super::god::God;
use super::rpc::requests;
use crate::os::killpoint;
use crate::protocol::{EventKind, Refusal, Report, Run};
use crate::spec::signal;
use crate::supervisor::{Effect, Input, ProcessId, Ticket};

impl God {
    /// Carries out one effect and returns what the supervisor is to know of it at once.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
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
            Effect::Drain { run, grace } => {
                self.runs.checks.end(run);
                match self.cluster_of(run) {
                    Some(cluster) => cluster.drain(run, grace),
                    None => return Some(Input::Drained { run }),
                }
            }
            Effect::Terminate { run } => self.terminate(run),
            Effect::Kill { run } => self.runs.table.kill(run),
            Effect::Signal { run, signal } => {
                if let Some(pid) = self.runs.table.main(run) {
                    self.runs.table.signal(run, pid, signal);
                }
            }
            Effect::ProcessRemoved { process } => {
                self.node_versions.remove(&process);
                self.bus.forget(process);
            }
            Effect::CloseListeners { app } | Effect::AppRemoved { app } => self.clusters.close(app),
            Effect::Serve { run } => {
                if let Some(cluster) = self.cluster_of(run) {
                    cluster.activation().ready(run);
                }
            }
            Effect::UpdatePidFile { process } => {
                self.launcher.update_pid_file(process, &self.supervisor, &self.runs.table);
            }
            Effect::WatchForDemand { app } => return self.clusters.watch_for_demand(app, &self.supervisor),
            Effect::Publish { process, kind } => self.bus.publish_about(process, kind, &self.supervisor),
            Effect::Settle { ticket, answer } => self.settle(ticket, answer),
        }
        None
    }

    /// Starts a run. The outcome is the input that follows.
    pub(super) fn spawn(&mut self, run: Run, id: ProcessId) -> Input {
        let process = self.supervisor.process(id).expect("a spawn is decided for a process that exists").clone();
        let spec = Arc::clone(&self.supervisor.app(process.app).expect("an app outlives its processes").spec);
        let entered_in = (&mut self.runs, &mut self.clusters);
        match self.launcher.start(run, &process, &spec, &self.supervisor, entered_in) {
            Ok(pid) => {
                self.node_versions.remove(&id);
                self.bus.publish_about(id, EventKind::Started { pid }, &self.supervisor);
                self.launcher.update_pid_file(id, &self.supervisor, &self.runs.table);
                self.check_health(run);
                Input::Spawned { run }
            }
            Err(failure) => Input::SpawnFailed { run, error: failure.error, permanent: failure.permanent },
        }
    }

    /// Takes a run out of rotation, then sends the stop signal to its tree, deepest first: or to its main process alone,
    /// or the message `shutdown` instead, where the spec has it so.
    fn terminate(&mut self, run: Run) {
        self.runs.checks.end(run);
        killpoint::pass("terminating");
        self.runs.table.mark_stopping(run);
        killpoint::pass("told-to-stop");
        self.exclude(run);
        let stop = self.supervisor.process_of(run).and_then(|process| self.supervisor.app(process.app));
        let (by_message, whole) = stop.map_or((false, true), |app| (app.spec.stop.with_message, app.spec.stop.tree));
        let main = self.runs.table.main(run);
        if let (true, Some(_), Some(cluster)) = (by_message, main, self.cluster_of(run)) {
            cluster.send(run, &serde_json::Value::from("shutdown"));
            return;
        }
        let tree = self.runs.table.tree(run);
        for pid in tree.iter().rev().filter(|pid| whole || main.is_none_or(|main| main == **pid)) {
            self.runs.table.signal(run, *pid, signal::INT);
        }
    }

    /// Sends the answer of the operation that has this ticket to its client.
    fn settle(&mut self, ticket: Ticket, answer: Result<Report, Refusal>) {
        self.ended |= self.ending == Some(ticket);
        let (supervisor, home) = (&self.supervisor, &self.launcher.home);
        let error_logs = |names: &HashSet<&str>| requests::error_logs(names, supervisor, home);
        self.requests.answer(ticket, answer, &self.launcher.logs, error_logs);
    }
}
