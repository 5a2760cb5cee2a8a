//! The God task: one loop that receives what happens, has the supervisor decide, and carries out its effects.
//!
//! Exits come before readiness, readiness before requests. Handlers are synchronous: nothing here waits for an app.
//! What the supervisor changed is written down before the first effect is carried out, see
//! [`crate::supervisor::persist`]. What God owns is a field each: the runs, the clusters, what starts processes, the
//! requests under way. They never call God; they return inputs for the supervisor.
//!
//! `impl God` stands in three files: here the loop and the commands, in [`super::effect`] what the supervisor decided,
//! in [`super::boot::recover`] what follows a God that died.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use tokio::time::Instant;

use super::clusters::Clusters;
use super::disk::desired::Ending;
use super::disk::warnings::Warnings;
use super::event_sources::Sources;
use super::launch::Launcher;
use super::moment;
use super::rpc::audit::Audit;
use super::rpc::bus::Bus;
use super::rpc::command::{Command, Reply};
use super::rpc::log_files;
use super::rpc::requests::Requests;
use super::rpc::view::View;
use super::runs::notify::NotifyMessage;
use super::runs::sampler::Sampler;
use super::runs::{Reported, Runs};
use super::upgrade::{self, Upgrade};
use crate::cluster::{Cluster, Notice};
use crate::keeper::{Ledger, SharedMemory};
use crate::os::process::reap::Ended;
use crate::os::{clock, killpoint};
use crate::protocol::event::Requester;
use crate::protocol::{EventKind, Run};
use crate::supervisor::{AppId, Input, ProcessId, Proof, Request, Supervisor, Ticket};

/// Notices handled in a row before other sources have their turn: workers may send notices without an end.
const NOTICES_IN_A_ROW: u32 = 64;

/// What God works with, made by [`super::boot::bootstrap`].
pub(crate) struct Parts {
    /// What the supervisor changes is written down here.
    pub ledger: Ledger,
    /// The memory shared with the keeper.
    pub shared_memory: Rc<SharedMemory>,
    /// Starts processes.
    pub launcher: Launcher,
    /// The runs that are alive.
    pub runs: Runs,
    /// The clusters of all apps.
    pub clusters: Clusters,
    /// Publishes events.
    pub bus: Bus,
    /// What an operator should know of the files in the home.
    pub warnings: Warnings,
    /// The last upgrade, and the probation of this God.
    pub upgrade: Upgrade,
}

/// All state of the daemon, owned by one task.
pub(crate) struct God {
    pub(super) supervisor: Supervisor,
    pub(super) ledger: Ledger,
    pub(super) shared_memory: Rc<SharedMemory>,
    pub(super) launcher: Launcher,
    pub(super) runs: Runs,
    pub(super) clusters: Clusters,
    pub(super) bus: Bus,
    pub(super) requests: Requests,
    /// `process.version` of the current runs that reported it.
    pub(super) node_versions: HashMap<ProcessId, String>,
    pub(super) upgrade: Upgrade,
    warnings: Warnings,
    sampler: Sampler,
    /// The ticket of the last request to end, by a signal or by a client.
    pub(super) ending: Option<Ticket>,
    /// True once everything has been stopped on request: the loop ends.
    pub(super) ended: bool,
}

impl God {
    /// A God without apps.
    pub fn new(parts: Parts) -> God {
        let Parts { ledger, shared_memory, launcher, runs, clusters, bus, warnings, upgrade } = parts;
        God {
            supervisor: Supervisor::default(),
            ledger,
            shared_memory,
            launcher,
            runs,
            clusters,
            bus,
            requests: Requests::default(),
            node_versions: HashMap::new(),
            upgrade,
            warnings,
            sampler: Sampler::new(),
            ending: None,
            ended: false,
        }
    }

    /// Runs until everything has been stopped on request.
    pub async fn run(mut self, mut sources: Sources) {
        let (channels, mut in_a_row) = (&mut sources.channels, 0);
        while !self.ended {
            let tick_at = self.tick_at();
            let noticed = std::mem::take(&mut in_a_row);
            tokio::select! {
                biased;
                dead = channels.exits.wait() => {
                    self.reap(&dead);
                    killpoint::pass("reaped");
                    channels.exits.take();
                }
                Some(end) = channels.ends.recv() => {
                    let inputs = self.runs.table.ended(&[end]);
                    self.all_inputs(inputs);
                }
                Some(notice) = channels.notices.recv(), if noticed < NOTICES_IN_A_ROW => {
                    in_a_row = noticed + 1;
                    self.notice(notice);
                }
                Some(message) = channels.notifications.recv() => self.notification(message),
                Some((run, fault)) = channels.findings.recv() => self.input(Input::Checked { run, fault }),
                _ = sources.terminate.recv() => self.end("SIGTERM", None),
                _ = sources.interrupt.recv() => self.end("SIGINT", None),
                _ = sources.quit.recv() => self.end("SIGQUIT", None),
                _ = sources.hangup.recv() => if sources.foreground { self.end("SIGHUP", None) },
                _ = sources.reopen.recv() => log_files::reopen(&self.launcher.logs, None),
                _ = &mut channels.orphaned, if !channels.orphaned.is_terminated() => self.replace_keeper(),
                () = sleep_until(tick_at) => self.input(Input::Tick),
                () = sleep_until(self.upgrade.deadline()) => self.upgrade.complete(),
                () = sleep_until(self.sampler.deadline(&self.supervisor)) => {
                    let inputs = self.sampler.sample(&mut self.runs.table);
                    self.all_inputs(inputs);
                }
                () = sleep_until(self.runs.stderr_rates.deadline(&self.supervisor)) => {
                    let inputs = self.runs.stderr_rates.count(&self.supervisor);
                    self.all_inputs(inputs);
                }
                Some(command) = channels.commands.recv() => self.command(command),
                // No other source had anything: more notices may be handled.
                () = std::future::ready(()), if noticed >= NOTICES_IN_A_ROW => {}
            }
        }
        // No God follows that would read the rest of the output.
        self.launcher.logs.catch_up(|_| true).await;
        // The last answers go to their clients through tasks of this same thread, which are given the time to send them.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    /// When the supervisor is to get the next [`Input::Tick`].
    fn tick_at(&self) -> Option<Instant> {
        let deadline = self.supervisor.next_deadline()?;
        Some(Instant::now() + deadline.since(moment::now()))
    }

    // Inputs of the supervisor.

    /// Has the supervisor decide, and carries out its effects and what follows from them.
    pub(super) fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = self.supervisor.handle(moment::now(), input);
            killpoint::pass("decided");
            self.write_down();
            killpoint::pass("written-down");
            for effect in effects {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    /// Inputs in order. Before the supervisor learns of the end of a run, what was kept for the run goes.
    pub(super) fn all_inputs(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            match &input {
                Input::Exited { run, survivors, .. } => self.main_exited(*run, *survivors),
                Input::TreeExited { run } => {
                    self.runs.notifications.forget(*run);
                    self.runs.table.update_record(*run);
                }
                Input::Request { .. }
                | Input::Spawned { .. }
                | Input::SpawnFailed { .. }
                | Input::Listening { .. }
                | Input::Ready { .. }
                | Input::ListenFailed { .. }
                | Input::Drained { .. }
                | Input::Checked { .. }
                | Input::Sampled { .. }
                | Input::StderrLines { .. }
                | Input::WatchdogPing { .. }
                | Input::WatchdogTrigger { .. }
                | Input::Idle { .. }
                | Input::Demand { .. }
                | Input::Delayed { .. }
                | Input::Tick => {}
            }
            self.input(input);
        }
    }

    /// The main process of a run was reaped.
    fn main_exited(&mut self, run: Run, survivors: bool) {
        self.runs.main_exited(run, survivors);
        if let Some(process) = self.supervisor.process_of(run) {
            if let Some(cluster) = self.clusters.get(process.app) {
                cluster.gone(run);
            }
            self.launcher.update_pid_file(process.id, &self.supervisor, &self.runs.table);
        }
        self.runs.table.update_record(run);
    }

    /// Writes down what the supervisor changed, as one piece: the next God finds all of it or nothing.
    fn write_down(&mut self) {
        for (key, json) in self.supervisor.changes() {
            match json {
                Some(json) => self.ledger.put(&key.to_string(), &json),
                None => self.ledger.remove(&key.to_string()),
            }
        }
        self.ledger.commit();
    }

    /// Children of the keeper have ended.
    pub(super) fn reap(&mut self, dead: &[(i32, Ended)]) {
        let inputs = self.runs.table.reaped(dead);
        self.all_inputs(inputs);
    }

    /// A cluster reports something of a worker or of its listeners.
    fn notice(&mut self, notice: Notice) {
        if let Some((run, cluster)) = notice.sender().and_then(|run| Some((run, self.cluster_of(run)?))) {
            cluster.notice_handled(run);
        }
        match notice {
            Notice::Listening { run, address, accepts } => {
                self.publish_of(run, EventKind::Listening { address: address.clone() });
                self.input(Input::Listening { run, address });
                if accepts {
                    self.input(Input::Ready { run, proof: Proof::Listening });
                }
            }
            Notice::Accepting { run } => self.input(Input::Ready { run, proof: Proof::Listening }),
            Notice::Message { run, data } => {
                if data.as_str() == Some("ready") {
                    self.input(Input::Ready { run, proof: Proof::Message });
                }
                self.publish_of(run, EventKind::Message { data });
            }
            Notice::ListenFailed { run, why } => self.input(Input::ListenFailed { run, why }),
            Notice::Drained { run } => self.input(Input::Drained { run }),
            Notice::Idle { app } => self.input(Input::Idle { app: AppId(app) }),
            Notice::Demand { app } => self.input(Input::Demand { app: AppId(app) }),
            Notice::NodeVersion { run, version } => {
                if let Some(process) = self.supervisor.process_of(run) {
                    self.node_versions.insert(process.id, version);
                }
            }
            Notice::Online { .. } | Notice::Disconnected { .. } => {}
        }
    }

    /// A program sent a message to its `NOTIFY_SOCKET`. The message is dropped when all of it has had its effect, which
    /// the sender may wait for.
    fn notification(&mut self, mut message: NotifyMessage) {
        let run = message.run;
        for note in self.runs.accept(&mut message) {
            match self.runs.report(run, note) {
                Reported::Nothing => {}
                Reported::Input(input) => self.input(input),
                Reported::Stopping => self.exclude(run),
                Reported::MainReplaced => self.check_health(run),
            }
        }
    }

    // Commands of clients.

    /// Handles a command. If its client has hung up, the answer is dropped and the work goes on.
    fn command(&mut self, command: Command) {
        match command {
            Command::Request(request, by, reply) => self.request(request, &by, reply),
            Command::List(reply) => drop(reply.send(self.view().list())),
            Command::Describe(target, reply) => drop(reply.send(self.view().describe(&target))),
            Command::DaemonWarnings(reply) => drop(reply.send(self.warnings.now(&self.supervisor))),
            Command::Snapshot(reply) => drop(reply.send(self.supervisor.snapshot())),
            Command::Flush(target, reply) => log_files::flush(&target, &self.supervisor, &self.launcher, reply),
            Command::ReopenLogs(reply) => log_files::reopen(&self.launcher.logs, Some(reply)),
            Command::Publish(kind) => self.bus.publish(None, kind),
            Command::Ledger(reply) => {
                let runs = self.runs.count();
                drop(reply.send(self.ledger.file().map(|ledger| (ledger, runs))));
            }
            Command::HandOver(program, version, reply) => {
                let now = (self.runs.count(), self.supervisor.is_closing());
                self.upgrade.hand_over(program, version, now, reply);
            }
            Command::Upgraded(reply) => self.upgrade.answer(reply),
            Command::Subscribe(stream) => self.bus.subscribe(stream),
        }
    }

    /// A request for the supervisor. Which client made it is published with each process that it is about.
    fn request(&mut self, request: Request, by: &Requester, reply: Reply) {
        let audit = Audit::new(&request, by, &self.supervisor);
        self.publish_all(audit.before());
        match request {
            Request::ShutDown => self.end("a client's request", Some(reply)),
            Request::Act { .. } | Request::Launch { .. } | Request::Restore(_) => {
                let ticket = self.requests.open(Some(reply));
                self.input(Input::Request { ticket, ask: request });
                self.publish_all(audit.after(&self.supervisor));
            }
        }
    }

    /// Stops everything in order; the loop ends when all is down. The desired state is written down first, so that the
    /// next boot can bring it back.
    pub(super) fn end(&mut self, why: &str, reply: Option<Reply>) {
        let ticket = self.requests.open(reply);
        if self.ending.is_none() {
            tracing::info!("ending because of {why}");
            if !self.supervisor.is_closing() {
                Ending::record(clock::epoch_ms(), &self.supervisor, &self.ledger);
            }
            self.bus.publish(None, EventKind::ShuttingDown);
        }
        self.ending = Some(ticket);
        self.input(Input::Request { ticket, ask: Request::ShutDown });
    }

    // What handlers in several files need.

    /// The cluster of a run's app, if the run is alive and its app has one.
    pub(super) fn cluster_of(&self, run: Run) -> Option<&Cluster> {
        self.clusters.get(self.runs.table.get(run)?.app)
    }

    /// No new connection goes to this run.
    pub(super) fn exclude(&self, run: Run) {
        if let Some(cluster) = self.cluster_of(run) {
            cluster.exclude(run);
        }
    }

    /// Checks the health of a run from now on, if its app has a check.
    pub(super) fn check_health(&mut self, run: Run) {
        self.launcher.check_health(run, &self.supervisor, &self.clusters, &mut self.runs);
    }

    fn view(&mut self) -> View<'_> {
        View::new(&self.supervisor, &mut self.runs, &self.clusters, &self.launcher, &self.node_versions)
    }

    fn publish_of(&mut self, run: Run, kind: EventKind) {
        if let Some(process) = self.supervisor.process_of(run).map(|process| process.id) {
            self.bus.publish_about(process, kind, &self.supervisor);
        }
    }

    fn publish_all(&mut self, events: Vec<(ProcessId, EventKind)>) {
        for (process, kind) in events {
            self.bus.publish_about(process, kind, &self.supervisor);
        }
    }

    /// Replaces the keeper, which has died: this process becomes the keeper and starts another God. Returns only if that
    /// fails.
    fn replace_keeper(&mut self) {
        tracing::warn!("the keeper died: this process replaces it and starts the daemon anew");
        let error = upgrade::become_keeper(&self.shared_memory, &self.launcher.home);
        tracing::error!("no new keeper could be made, so apps will not outlive this daemon: {error}");
        self.runs.table.continue_without_keeper();
        self.handle_unreported_exits();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
