//! What God has to do with the sockets his apps are given.

use std::io;
use std::sync::Arc;

use super::god::God;
use super::wiring::Wiring;
use crate::cluster::Activation;
use crate::keeper::Records;
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{AppId, Input, Process, ProcessId, State};

/// The variable whose value is the process's own pid.
pub(super) const PID_VARIABLE: &str = "LISTEN_PID";

impl God {
    pub(super) fn activation_of(&self, run: Run) -> Option<&Activation> {
        self.activations.get(&self.living.get(run)?.app).filter(|activation| activation.knows(run))
    }

    fn activation(&mut self, app: AppId) -> &Activation {
        let (memory, notices) = (&self.shell.memory, &self.shell.notices);
        self.activations.entry(app).or_insert_with(|| Activation::new(app.0, memory.clone(), notices.clone()))
    }

    /// Gives a run that is about to start its sockets, as the first things it finds open.
    pub(super) fn hand_sockets(&mut self, run: Run, app: AppId, spec: &AppSpec, wiring: &mut Wiring) -> io::Result<()> {
        if spec.mechanism() != Mechanism::Activation {
            return Ok(());
        }
        let sockets = self.activation(app).sockets(run, &spec.activation)?;
        let names: Vec<String> =
            spec.activation.listen.iter().map(crate::spec::activation::Endpoint::fd_name).collect();
        wiring.tell("LISTEN_FDS", sockets.len().to_string());
        wiring.tell("LISTEN_FDNAMES", names.join(":"));
        for socket in sockets {
            wiring.give(socket);
        }
        Ok(())
    }

    /// A process is ready: connections may go to it.
    pub(super) fn take_in(&self, id: ProcessId) {
        let run = self.supervisor.process(id).and_then(Process::current_run);
        if let Some((run, activation)) = run.and_then(|run| Some((run, self.activation_of(run)?))) {
            activation.ready(run);
        }
    }

    /// While a process rests, connections to it wait. If they cannot, it starts, and its failure tells why.
    pub(super) fn keep_door_open(&mut self, id: ProcessId) -> Option<Input> {
        let app = self.supervisor.process(id)?.app;
        let spec = Arc::clone(&self.supervisor.app(app)?.spec);
        let opened = self.activation(app).open(&spec.activation);
        opened.err().map(|error| {
            tracing::error!("`{}` cannot rest: {error}", spec.name);
            Input::Wanted { app }
        })
    }

    /// The sockets that the God before held for apps.
    pub(super) fn find_activations(&mut self, records: &Records, files: &mut super::revive::Files) {
        let apps: Vec<(AppId, Arc<AppSpec>)> =
            self.supervisor.apps().map(|app| (app.id, Arc::clone(&app.spec))).collect();
        for (app, spec) in apps {
            let (memory, notices) = (self.shell.memory.clone(), self.shell.notices.clone());
            let record = |key: &str| records.get(key).cloned();
            match Activation::revive(app.0, memory, notices, record, files) {
                Ok(None) => {}
                Ok(Some(activation)) => {
                    if let Err(error) = activation.open(&spec.activation) {
                        tracing::error!("`{}`: {error}", spec.name);
                    }
                    self.activations.insert(app, activation);
                }
                Err(error) => tracing::error!("the sockets of `{}` are lost: {error}", spec.name),
            }
        }
    }

    /// What was found out of workers, and not told.
    pub(super) fn find_out_again(&self) {
        for process in self.supervisor.processes() {
            let Some(activation) = self.activations.get(&process.app) else { continue };
            match &process.state {
                State::Online(serving) => activation.ready(serving.run),
                State::Trial { new, old } => {
                    [new, old].map(|serving| activation.ready(serving.run)).into_iter().collect()
                }
                State::Launching { run, .. } => activation.resume(*run),
                State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => {}
            }
        }
    }
}
