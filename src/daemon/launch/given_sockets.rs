//! What God has to do with the sockets his apps are given.

use std::io;
use std::sync::Arc;

use super::super::god::God;
use super::child_fds::ChildFds;
use crate::cluster::Cluster;
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{AppId, Input, Process, ProcessId, State};

/// The variable whose value is the process's own pid.
pub(crate) const PID_VARIABLE: &str = "LISTEN_PID";

impl God {
    /// Gives a run that is about to start its sockets, as the first things it finds open.
    pub(crate) fn hand_sockets(
        &mut self,
        run: Run,
        app: AppId,
        spec: &AppSpec,
        child_fds: &mut ChildFds,
    ) -> io::Result<()> {
        if spec.mechanism() != Mechanism::Activation {
            return Ok(());
        }
        let sockets = self.cluster(app, spec).activation().sockets(run, &spec.activation)?;
        let names: Vec<String> =
            spec.activation.listen.iter().map(crate::spec::activation::Endpoint::fd_name).collect();
        child_fds.tell("LISTEN_FDS", sockets.len().to_string());
        child_fds.tell("LISTEN_FDNAMES", names.join(":"));
        for socket in sockets {
            child_fds.give(socket);
        }
        Ok(())
    }

    /// A process is ready: connections may go to it.
    pub(crate) fn take_in(&self, id: ProcessId) {
        let run = self.supervisor.process(id).and_then(Process::current_run);
        if let Some((run, cluster)) = run.and_then(|run| Some((run, self.cluster_of(run)?))) {
            cluster.activation().ready(run);
        }
    }

    /// While a process rests, connections to it wait. If they cannot, it starts, and its failure tells why.
    pub(crate) fn keep_door_open(&mut self, id: ProcessId) -> Option<Input> {
        let app = self.supervisor.process(id)?.app;
        let spec = Arc::clone(&self.supervisor.app(app)?.spec);
        let opened = self.cluster(app, &spec).activation().open(&spec.activation);
        opened.err().map(|error| {
            tracing::error!("`{}` cannot rest: {error}", spec.name);
            Input::Demand { app }
        })
    }

    /// What was found out of workers, and not told.
    pub(crate) fn find_out_again(&self) {
        for process in self.supervisor.processes() {
            let Some(activation) = self.clusters.get(&process.app).map(Cluster::activation) else { continue };
            match &process.state {
                State::Online(serving) => activation.ready(serving.run),
                State::Canary { new, old } => [new, old].iter().for_each(|serving| activation.ready(serving.run)),
                State::Launching { run, .. } => activation.resume(*run),
                State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => {}
            }
        }
    }
}
