//! The clusters of all apps: made at the first need, and closed when the supervisor decides so.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::cluster::{Cluster, ClusterOptions, Notice, Persistence, RecoveredCluster};
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{App, AppId, Input, Process, State, Supervisor};

/// One cluster for each app that has listeners or workers.
pub(crate) struct Clusters {
    by_app: HashMap<AppId, Cluster>,
    persistence: Persistence,
    notices: UnboundedSender<Notice>,
}

impl Clusters {
    /// No cluster yet. Clusters write their state to `persistence` and send what workers report to `notices`.
    pub fn new(persistence: Persistence, notices: UnboundedSender<Notice>) -> Clusters {
        Clusters { by_app: HashMap::new(), persistence, notices }
    }

    /// The cluster of an app, if it has one.
    pub fn get(&self, app: AppId) -> Option<&Cluster> {
        self.by_app.get(&app)
    }

    /// The cluster of an app, made if there is none, with the options of this spec from now on.
    pub fn open(&mut self, app: AppId, spec: &AppSpec) -> &Cluster {
        let options = options(spec);
        let (persistence, notices) = (&self.persistence, &self.notices);
        let new = || Cluster::new(options.clone(), app.0, persistence.clone(), notices.clone());
        let cluster = self.by_app.entry(app).or_insert_with(new);
        cluster.set_options(options);
        cluster
    }

    /// The cluster that the God before left of an app: its listeners, the channels to its workers, and the connections
    /// between the two. What belongs to it is taken out of `recovered`.
    pub fn recover(&mut self, app: &App, supervisor: &Supervisor, recovered: RecoveredCluster<'_>) {
        if !Cluster::is_known(app.id.0, recovered.records) {
            return;
        }
        let (persistence, notices) = (self.persistence.clone(), self.notices.clone());
        match Cluster::recover(options(&app.spec), app.id.0, persistence, notices, recovered) {
            Ok(cluster) => {
                restore_rotation(app.id, &cluster, supervisor);
                if app.spec.mechanism() == Mechanism::Activation
                    && let Err(error) = cluster.activation().open(&app.spec.activation)
                {
                    tracing::error!("`{}`: {error}", app.spec.name);
                }
                self.by_app.insert(app.id, cluster);
            }
            Err(error) => tracing::error!("the listeners of app {} are lost: {error}", app.id.0),
        }
    }

    /// Closes the listeners of an app.
    pub fn close(&mut self, app: AppId) {
        if let Some(cluster) = self.by_app.remove(&app) {
            cluster.close();
        }
    }

    /// Keeps a worker that is about to start out of rotation until it is ready, if others serve meanwhile, or it needs no
    /// connection to become ready.
    pub fn mark_not_ready(&mut self, run: Run, app: AppId, spec: &AppSpec, supervisor: &Supervisor) {
        let serves = |process: &Process| process.app == app && process.serves();
        if spec.listens_before_ready() || (spec.may_be_held_back() && supervisor.processes().any(serves)) {
            self.open(app, spec).mark_not_ready(run);
        }
    }

    /// Opens the addresses of an app with an idle process, so that connections wait for it. If they cannot be opened, the
    /// app is reported as in demand: the process starts, and its failure gives the reason.
    pub fn watch_for_demand(&mut self, app: AppId, supervisor: &Supervisor) -> Option<Input> {
        let spec = Arc::clone(&supervisor.app(app)?.spec);
        let opened = self.open(app, &spec).activation().open(&spec.activation);
        opened.err().map(|error| {
            tracing::error!("`{}` cannot be idle: {error}", spec.name);
            Input::Demand { app }
        })
    }

    /// Repeats to the given sockets of each app which workers are ready or launching, in case the God before died before it
    /// did so.
    pub fn resume_given_sockets(&self, supervisor: &Supervisor) {
        for process in supervisor.processes() {
            let Some(activation) = self.get(process.app).map(Cluster::activation) else { continue };
            match &process.state {
                State::Online(serving) => activation.ready(serving.run),
                State::Canary { new, old } => [new, old].iter().for_each(|serving| activation.ready(serving.run)),
                State::Launching { run, .. } => activation.resume(*run),
                State::Stopped | State::Stopping(_) | State::Waiting { .. } | State::Idle | State::Errored => {}
            }
        }
    }
}

/// Admits the workers that are ready and ejects those that are unhealthy, in case the God before died before it did so.
fn restore_rotation(app: AppId, cluster: &Cluster, supervisor: &Supervisor) {
    let members = supervisor.processes().filter(|process| process.app == app);
    let serving = members.flat_map(Process::serving).map(|(run, _)| run);
    let (ejected, admitted): (Vec<Run>, Vec<Run>) = serving.partition(|run| supervisor.is_ejected(*run));
    admitted.into_iter().for_each(|run| cluster.admit(run));
    ejected.into_iter().for_each(|run| cluster.eject(run));
}

/// How the workers of an app share connections.
fn options(spec: &AppSpec) -> ClusterOptions {
    ClusterOptions { balance: spec.balance, sharing: spec.sharing.clone(), queue: spec.queue }
}
