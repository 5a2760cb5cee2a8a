//! The God task: one loop that takes in what happens, asks the supervisor, and has the effects carried out.
//!
//! Exits come before readiness, readiness before requests. Handlers are synchronous: nothing here waits for an app.
//! What the supervisor changed is written down before the first effect is carried out, see [`crate::supervisor::persist`].

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::disk::desired::{Ending, Fingerprints};
use super::disk::dump::Saved;
use super::disk::history::History;
use super::disk::journal::Journal;
use super::disk::log;
use super::disk::pid_files::PidFiles;
use super::event_sources::Sources;
use super::launch::bind_watch::BindWatches;
use super::rpc::bus::Bus;
use super::runs::health::HealthChecks;
use super::runs::notify::{Notifications, NotifyMessage};
use super::runs::stderr_rate;
use super::runs::stderr_rate::StderrRates;
use super::runs::table::{End, RunTable};
use super::upgrade::Outcome;
use crate::cluster::{Cluster, Notice, Persistence};
use crate::logs::LogFiles;
use crate::os::cgroup::Cgroups;
use crate::os::process::reap::Ended;
use crate::os::thread_pool::Threads;
use crate::os::{clock, killpoint};
use crate::paths::Home;
use crate::protocol::event::{EventProcess, Requester};
use crate::protocol::info::EpochMs;
use crate::protocol::{DaemonWarnings, Description, EventKind, ProcessInfo, Refusal, Report, Run, Successor, Upgraded};
use crate::spec::target::Selector;
use crate::supervisor::{AppId, Input, Moment, ProcessId, Proof, Request, Snapshot, Supervisor, Ticket};

/// So many notices are taken in before others have their turn: workers may never come to an end of what they say.
const NOTICES_IN_A_ROW: u32 = 64;
/// How often memory is measured while some app has a limit.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<Report, Refusal>>;

/// What the RPC handlers ask of God.
pub enum Command {
    /// Something for the supervisor; the answer comes when it is done.
    Request(Request, Requester, Reply),
    /// The process list.
    List(oneshot::Sender<Vec<ProcessInfo>>),
    /// Everything about some processes.
    Describe(Vec<Selector>, oneshot::Sender<Result<Vec<Description>, Refusal>>),
    /// What an operator should know about the daemon itself.
    DaemonWarnings(oneshot::Sender<DaemonWarnings>),
    /// The desired state.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Truncate the log files of some processes.
    Flush(Vec<Selector>, Reply),
    /// Close and open all log files again.
    ReopenLogs(Reply),
    /// Tell subscribers.
    Publish(EventKind),
    /// The ledger as it is, for a program that may take over, and how many processes that would go on with.
    Ledger(oneshot::Sender<std::io::Result<(OwnedFd, u32)>>),
    /// Hand over to this program, of this version.
    HandOver(File, String, oneshot::Sender<Result<Successor, Refusal>>),
    /// What came of the last upgrade.
    Upgraded(oneshot::Sender<Upgraded>),
    /// A new subscriber.
    Subscribe(tokio::net::UnixStream),
}

/// What God works with, made before it.
pub struct Resources {
    /// Where everything lies.
    pub home: Home,
    /// Name of the user the apps run as.
    pub user: String,
    /// The open-file limit we were started with, which is the apps'.
    pub file_limit: (u64, u64),
    /// Where the groups of runs are made.
    pub cgroups: Cgroups,
    /// Where clusters tell what workers say.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// Where output goes.
    pub logs: LogFiles,
    /// Where pids are noted.
    pub pid_files: PidFiles,
    /// Where the state is written down.
    pub persistence: Persistence,
    /// Threads for work on files.
    pub threads: Threads,
    /// Pid of the keeper.
    pub keeper: i32,
    /// What the next boot goes on with.
    pub journal: Journal,
    /// What was saved last.
    pub saved: Saved,
    /// Where events are written down; taken by the bus.
    pub history: Option<History>,
}

/// All state of the daemon, owned by one task.
pub struct God {
    pub(crate) resources: Resources,
    pub(crate) supervisor: Supervisor,
    pub(crate) runs: RunTable,
    pub(crate) clusters: HashMap<AppId, Cluster>,
    pub(crate) notifications: Notifications,
    pub(crate) bus: Bus,
    /// `process.version` of the current run, where it was told.
    pub(crate) node_versions: HashMap<ProcessId, String>,
    pub(crate) fingerprints: Fingerprints,
    /// Whom events were about, until they are removed.
    pub(crate) told_of: HashMap<ProcessId, EventProcess>,
    pub(crate) bind_watches: BindWatches,
    /// Who is asked how it is.
    pub(crate) checks: HealthChecks,
    /// What is written to standard error.
    pub(crate) stderr_rates: StderrRates,
    pub(crate) tickets: HashMap<Ticket, Reply>,
    last_ticket: u64,
    pub(crate) ending: Option<Ticket>,
    pub(crate) ended: bool,
    /// When the trial of this program is over, and what is to be said of it then.
    pub(crate) probation: Option<(Instant, Upgraded)>,
    pub(crate) upgrade: Outcome,
}

impl God {
    /// A God with nothing to do yet, of this lineage.
    #[must_use]
    pub fn new(
        lineage: String,
        ends: mpsc::UnboundedSender<End>,
        heard: mpsc::Sender<NotifyMessage>,
        checks: HealthChecks,
        mut resources: Resources,
    ) -> God {
        let bus = resources.history.take().map_or_else(Bus::default, Bus::with_history);
        God {
            notifications: Notifications::new(heard, resources.persistence.ledger.clone()),
            runs: RunTable::new(resources.keeper, lineage, resources.persistence.ledger.clone(), ends),
            bind_watches: BindWatches::new(resources.persistence.tracer.clone()),
            resources,
            supervisor: Supervisor::default(),
            clusters: HashMap::new(),
            bus,
            node_versions: HashMap::new(),
            fingerprints: Fingerprints::default(),
            told_of: HashMap::new(),
            checks,
            stderr_rates: StderrRates::default(),
            tickets: HashMap::new(),
            last_ticket: 0,
            ending: None,
            ended: false,
            probation: None,
            upgrade: Outcome::default(),
        }
    }

    /// Runs until everything has been stopped on request.
    pub async fn run(mut self, mut sources: Sources) {
        let mut sample_at = Instant::now() + SAMPLE_INTERVAL;
        let mut count_at = Instant::now();
        let (told, mut in_a_row) = (&mut sources.channels, 0);
        while !self.ended {
            let deadline = self.deadline();
            let noticed = std::mem::take(&mut in_a_row);
            tokio::select! {
                biased;
                dead = told.exits.wait() => {
                    self.reap(&dead);
                    killpoint::pass("reaped");
                    told.exits.take();
                }
                Some(end) = told.ends.recv() => {
                    let news = self.runs.ended(&[end]);
                    self.all_inputs(news);
                }
                Some(notice) = told.notices.recv(), if noticed < NOTICES_IN_A_ROW => {
                    in_a_row = noticed + 1;
                    self.notice(notice);
                }
                Some(heard) = told.heard.recv() => self.heard(heard),
                Some((run, fault)) = told.findings.recv() => self.input(Input::Checked { run, fault }),
                _ = sources.terminate.recv() => self.end("SIGTERM", None),
                _ = sources.interrupt.recv() => self.end("SIGINT", None),
                _ = sources.quit.recv() => self.end("SIGQUIT", None),
                _ = sources.hangup.recv() => if sources.foreground { self.end("SIGHUP", None) },
                _ = sources.reopen.recv() => self.reopen_logs(None),
                _ = &mut told.orphaned, if !told.orphaned.is_terminated() => self.replace_keeper(),
                () = sleep_until(deadline) => self.input(Input::Tick),
                () = sleep_until(self.probation.as_ref().map(|(over, _)| *over)) => self.passed_probation(),
                () = tokio::time::sleep_until(sample_at), if self.has_limits() => {
                    sample_at = Instant::now() + SAMPLE_INTERVAL;
                    self.sample();
                }
                () = tokio::time::sleep_until(count_at), if self.counts_complaints() => {
                    count_at = Instant::now() + stderr_rate::INTERVAL;
                    self.count_complaints();
                }
                Some(command) = told.commands.recv() => self.command(command),
                // Nobody else had anything.
                () = std::future::ready(()), if noticed >= NOTICES_IN_A_ROW => {}
            }
        }
        // Nobody comes after us who would read on.
        self.resources.logs.catch_up(|_| true).await;
        // The last answers are on their way through tasks of this very thread.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadline = self.supervisor.next_deadline()?;
        Some(Instant::now() + deadline.since(moment()))
    }

    /// Lets the supervisor decide, and does what it says, and whatever follows from that.
    pub(crate) fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = self.supervisor.handle(moment(), input);
            killpoint::pass("decided");
            self.write_down();
            killpoint::pass("written-down");
            for effect in effects {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    /// Takes in what happened to runs, main processes buried first.
    pub(crate) fn all_inputs(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            match &input {
                Input::Exited { run, survivors, .. } => {
                    if !survivors {
                        self.notifications.forget(*run);
                    }
                    self.buried(*run);
                    self.runs.put(*run);
                }
                Input::TreeExited { run } => {
                    self.notifications.forget(*run);
                    self.runs.put(*run);
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

    /// What the supervisor changed, as one piece.
    pub(crate) fn write_down(&mut self) {
        let ledger = &self.resources.persistence.ledger;
        for (key, json) in self.supervisor.changes() {
            match json {
                Some(json) => ledger.put(&key.to_string(), &json),
                None => ledger.remove(&key.to_string()),
            }
        }
        ledger.commit();
    }

    pub(crate) fn reap(&mut self, dead: &[(i32, Ended)]) {
        let news = self.runs.reaped(dead);
        self.all_inputs(news);
    }

    fn notice(&mut self, notice: Notice) {
        if let Some((run, cluster)) = notice.sender().and_then(|run| Some((run, self.cluster_of(run)?))) {
            cluster.notice_handled(run);
        }
        match notice {
            Notice::Listening { run, address } => {
                self.publish_of(run, EventKind::Listening { address: address.clone() });
                self.input(Input::Listening { run, address });
                self.input(Input::Ready { run, proof: Proof::Listening });
            }
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

    fn command(&mut self, command: Command) {
        // A client that hung up has no interest in the answer; the work goes on.
        match command {
            Command::Request(ask, by, reply) => self.asked(ask, &by, reply),
            Command::List(reply) => drop(reply.send(self.list())),
            Command::Describe(target, reply) => drop(reply.send(self.describe(&target))),
            Command::DaemonWarnings(reply) => drop(reply.send(self.standing())),
            Command::Snapshot(reply) => drop(reply.send(self.supervisor.snapshot())),
            Command::Flush(target, reply) => self.flush_logs(&target, reply),
            Command::ReopenLogs(reply) => self.reopen_logs(Some(reply)),
            Command::Publish(kind) => self.bus.publish(None, kind),
            Command::Ledger(reply) => {
                let runs = self.running();
                drop(reply.send(self.resources.persistence.ledger.file().map(|ledger| (ledger, runs))));
            }
            Command::HandOver(program, version, reply) => self.hand_over(program, version, reply),
            Command::Upgraded(reply) => self.tell_upgrade(reply),
            Command::Subscribe(stream) => self.bus.subscribe(stream),
        }
    }

    pub(crate) fn ticket(&mut self, reply: Option<Reply>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.extend(reply.map(|reply| (ticket, reply)));
        ticket
    }

    /// Stops everything in order; the loop ends when all is down. The desired state is written down first, so that the
    /// next boot can bring it back.
    pub(crate) fn end(&mut self, why: &str, reply: Option<Reply>) {
        let ticket = self.ticket(reply);
        if self.ending.is_none() {
            tracing::info!("ending because of {why}");
            if !self.supervisor.is_closing() {
                Ending::note(clock::epoch_ms(), &self.supervisor, &self.resources.persistence.ledger);
            }
            self.bus.publish(None, EventKind::ShuttingDown);
        }
        self.ending = Some(ticket);
        self.input(Input::Request { ticket, ask: Request::ShutDown });
    }

    pub(crate) fn publish(&mut self, process: ProcessId, kind: EventKind) {
        let now = self.supervisor.process(process).and_then(|known| {
            let spec = &self.supervisor.app(known.app)?.spec;
            Some(EventProcess { id: process.0, name: spec.name.clone(), namespace: spec.namespace.clone() })
        });
        if let Some(about) = now {
            self.told_of.insert(process, about);
        }
        // One that was just removed is told of once more.
        let about = self.told_of.get(&process).cloned();
        if let Some(about) = &about {
            log::event(about, &kind);
        }
        self.bus.publish(about, kind);
    }

    fn publish_of(&mut self, run: Run, kind: EventKind) {
        if let Some(process) = self.supervisor.process_of(run).map(|process| process.id) {
            self.publish(process, kind);
        }
    }
}

/// The supervisor's time.
#[must_use]
pub fn moment() -> Moment {
    Moment(clock::monotonic_ms())
}

/// A moment as wall time, for display.
#[must_use]
pub fn wall(at: Moment) -> EpochMs {
    clock::epoch_of(at.0)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
