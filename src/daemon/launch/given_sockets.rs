//! What God has to do with the sockets his apps are given.

use std::io;
use std::sync::Arc;

use super::super::god::God;
use super::child_fds::ChildFds;
use crate::cluster::Cluster;
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{AppId, Input, State};

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

    /// The run is ready: connections to the sockets it was given may go to it.
    pub(crate) fn serve(&self, run: Run) {
        if let Some(cluster) = self.cluster_of(run) {
            cluster.activation().ready(run);
        }
    }

    /// Opens the addresses of an app with an idle process, so that connections wait for it. If they cannot be opened,
    /// the app is reported as in demand: the process starts, and its failure says why.
    pub(crate) fn watch_for_demand(&mut self, app: AppId) -> Option<Input> {
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
