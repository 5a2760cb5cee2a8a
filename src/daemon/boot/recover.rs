//! A God's first deed when there was one before him: taking over what runs. See [`crate::supervisor::persist`] for the
//! order and its reasons.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::god::{God, moment};
use super::super::launch::spawn::{Kept, cluster_options, run_of};
use super::super::runs::table;
use super::super::runs::table::LiveRun;
use crate::cluster::{self, Cluster, Persistence};
use crate::keeper::exits::Inbox;
use crate::keeper::{Place, Previous, Records, Word};
use crate::os::cgroup::Cgroup;
use crate::os::process::reap::Ended;
use crate::os::process::{pidfd, proc, tree};
use crate::os::{clock, killpoint};
use crate::protocol::{EventKind, Exit, Run};
use crate::spec::Mechanism;
use crate::supervisor::{AppId, Effect, Input, Process, State, Supervisor};

/// Files that were kept, by name.
pub type Files = HashMap<String, OwnedFd>;

/// What the God before left to this one.
pub struct RecoveredState {
    /// What he wrote down.
    pub records: Records,
    /// The files he kept, by name.
    pub files: Files,
    /// Connections he had written down.
    pub connections: Vec<(OwnedFd, Place)>,
    /// Whatever else he had open.
    pub rest: Vec<OwnedFd>,
    /// His end.
    pub previous: Previous,
}

impl God {
    /// Goes on where the God before was, whose mind is `supervisor`.
    pub fn recover(&mut self, supervisor: Supervisor, mut legacy: RecoveredState, exits: &Inbox) {
        self.supervisor = supervisor;
        self.find_runs(&legacy.records);
        self.runs.find_parents(&legacy.records, legacy.previous.ended.is_none());
        self.find_clusters(&mut legacy);
        self.take_over_output(&mut legacy.files);
        killpoint::pass("recovering");
        self.find_marked();
        self.end_checks();
        self.tell(legacy.previous);
        let runs = &self.runs;
        self.notifications.recover(&legacy.records, &mut legacy.files, |run| runs.get(run).is_some());
        self.take_over_channels(&mut legacy.files);
        self.drop_rest(legacy.files, legacy.connections, legacy.rest);
        for effect in self.supervisor.unfinished(moment()) {
            self.finish(effect);
        }
        while let Some(dead) = exits.peek() {
            self.reap(&dead);
            exits.take();
        }
        killpoint::pass("recovered");
        self.bury_unseen();
        self.check_health_of_all();
        self.runs.watch_strangers();
        self.find_out_again();
        self.count_silence_anew();
        if self.supervisor.is_closing() {
            self.end("the daemon before", None);
        }
    }

    /// The runs that were written down.
    fn find_runs(&mut self, records: &Records) {
        for (key, json) in records {
            let Some(run) = key.strip_prefix(table::KEY).and_then(|run| run.parse().ok()).map(Run) else { continue };
            match serde_json::from_str::<table::Record>(json) {
                Ok(table::Record { live, group }) => {
                    self.runs.confine(run, Cgroup::reopen(&group));
                    self.take_over(run, live);
                }
                Err(error) => tracing::error!("the record of run {} cannot be read: {error}", run.0),
            }
        }
    }

    fn take_over(&mut self, run: Run, live: LiveRun) {
        self.supervisor.skip_runs_to(run);
        if let Some(process) = pidfd::reopen(live.pid, live.start) {
            self.runs.hold(run, process);
        }
        self.runs.insert(run, live);
    }

    /// The listeners, the channels to workers, and the connections between the two.
    fn find_clusters(&mut self, legacy: &mut RecoveredState) {
        let apps: Vec<_> = self.supervisor.apps().map(|app| (app.id, Arc::clone(&app.spec))).collect();
        for (app, spec) in apps {
            if !Cluster::is_known(app.0, &legacy.records) {
                continue;
            }
            let left = cluster::RecoveredCluster {
                records: &legacy.records,
                files: &mut legacy.files,
                connections: &mut legacy.connections,
                rest: &mut legacy.rest,
            };
            let (memory, notices) = (self.resources.persistence.clone(), self.resources.notices.clone());
            match Cluster::recover(cluster_options(&spec), app.0, memory, notices, left) {
                Ok(cluster) => {
                    self.rotate(app, &cluster);
                    if spec.mechanism() == Mechanism::Activation
                        && let Err(error) = cluster.activation().open(&spec.activation)
                    {
                        tracing::error!("`{}`: {error}", spec.name);
                    }
                    self.clusters.insert(app, cluster);
                }
                Err(error) => tracing::error!("the listeners of app {} are lost: {error}", app.0),
            }
        }
    }

    /// Who is ready is let in, and who is unwell passed over: the God before may have died before he did.
    fn rotate(&self, app: AppId, cluster: &Cluster) {
        let members = self.supervisor.processes().filter(|process| process.app == app);
        let serving = members.flat_map(Process::serving).map(|(run, _)| run);
        let (out, back): (Vec<Run>, Vec<Run>) = serving.partition(|run| self.supervisor.is_ejected(*run));
        back.into_iter().for_each(|run| cluster.admit(run));
        out.into_iter().for_each(|run| cluster.eject(run));
    }

    /// Processes that were started in the last moment, before their pid was written down, and such as nobody answers
    /// for, which go.
    fn find_marked(&mut self) {
        for (pid, run) in self.runs.marked() {
            let leads = proc::stat(pid).is_some_and(|stat| stat.session == pid);
            match self.supervisor.process_of(run).map(|process| process.app) {
                Some(app) if leads => {
                    let logs =
                        ["out", "err"].map(|stream| self.output_path(&format!("log/{}/{stream}", run.0)).flatten());
                    self.take_over(run, LiveRun::new(pid, app, [0; 2], logs));
                }
                Some(_) => {}
                None => {
                    tracing::warn!("pid {pid} was started as run {}, of which nothing is known: it is killed", run.0);
                    for pid in tree::descendants(&[pid]) {
                        // It may have ended in this very moment.
                        let _ = tree::signal(pid, libc::SIGKILL);
                    }
                }
            }
        }
    }

    /// HealthChecks by command end with the God who made them, but for what they started themselves.
    fn end_checks(&self) {
        for pid in tree::descendants(&self.runs.checks()) {
            // It may have ended in this very moment.
            let _ = tree::signal(pid, libc::SIGKILL);
        }
    }

    /// Output of all runs, also of those that have ended: what is in the pipes belongs to the logs.
    fn take_over_output(&mut self, files: &mut HashMap<String, OwnedFd>) {
        let names: Vec<String> = files.keys().filter(|name| name.starts_with("log/")).cloned().collect();
        // By file, since a line that was cut must be finished before another pipe adds to its file.
        let mut by_file: BTreeMap<Option<PathBuf>, Vec<Kept>> = BTreeMap::new();
        for name in names {
            let (Some(pipe), Some(path)) = (files.remove(&name), self.output_path(&name)) else { continue };
            self.resources.persistence.ledger.keep(&name, &pipe);
            by_file.entry(path).or_default().push(self.kept(name, pipe));
        }
        for (path, pipes) in by_file {
            self.pump(pipes, path.as_deref());
        }
    }

    /// Where the output kept under this name goes.
    fn output_path(&self, name: &str) -> Option<Option<PathBuf>> {
        let run = run_of(name)?;
        let stream = usize::from(!name.ends_with("out"));
        if let Some(live) = self.runs.get(run) {
            return Some(live.logs[stream].clone());
        }
        let process = self.supervisor.process_of(run)?;
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, _) = super::super::launch::environment::files(&self.resources.home, spec, process);
        Some([logs.out, logs.err][stream].clone())
    }

    /// Channels of processes that were started in the last moment: their clusters do not know them yet.
    fn take_over_channels(&mut self, files: &mut HashMap<String, OwnedFd>) {
        let runs: Vec<(Run, AppId)> = self.runs.running().map(|(run, live)| (run, live.app)).collect();
        for (run, app) in runs {
            let (channel, watch) =
                (files.remove(&cluster::channel_name(run)), files.remove(&cluster::handover_name(run)));
            let Some(spec) = self.supervisor.app(app).map(|app| Arc::clone(&app.spec)) else { continue };
            let own = files.remove(&cluster::own_channel_name(run));
            let instance = self.supervisor.process_of(run).map_or(0, |process| process.instance);
            if self.is_launching(run) {
                self.mark_not_ready(run, app, &spec);
            }
            if let Some(channel) = channel {
                self.cluster(app, &spec).join(run, instance, channel, super::super::launch::spawn::part(&spec, own));
            }
            if let (Some(watch), Some(root)) = (watch, self.runs.main(run)) {
                self.cluster(app, &spec).expect_watch(run, root, watch.into());
            }
        }
    }

    /// What nobody took over is closed, and nobody looks for it any more.
    fn drop_rest(&self, files: HashMap<String, OwnedFd>, connections: Vec<(OwnedFd, Place)>, rest: Vec<OwnedFd>) {
        let Persistence { ledger, shared_memory, .. } = &self.resources.persistence;
        for (name, file) in files {
            ledger.release(&name);
            drop(file);
        }
        for (connection, _) in connections {
            let number = connection.as_raw_fd();
            drop(connection);
            shared_memory.clear(number);
        }
        drop(rest);
    }

    fn is_launching(&self, run: Run) -> bool {
        let launches = |process: &Process| matches!(process.state, State::Launching { run: new, .. } if new == run);
        self.supervisor.process_of(run).is_some_and(launches)
    }

    /// Carries out what the God before may not have come to.
    fn finish(&mut self, effect: Effect) {
        let (news, late) = match effect {
            Effect::Spawn { run, .. } if self.runs.get(run).is_some() => (Some(Input::Spawned { run }), None),
            // Another that was to be started with it could not be, and it has been told to go.
            Effect::Spawn { run, .. } if !self.is_launching(run) => (None, None),
            Effect::Spawn { run, process } => (Some(self.spawn(run, process)), Some(run)),
            Effect::Terminate { run } if self.runs.get(run).is_none_or(|live| live.told_to_stop) => (None, None),
            Effect::Terminate { run } => (self.carry_out(effect), Some(run)),
            Effect::Serve { .. }
            | Effect::Admit { .. }
            | Effect::Eject { .. }
            | Effect::Drain { .. }
            | Effect::Kill { .. }
            | Effect::Signal { .. }
            | Effect::UpdatePidFile { .. }
            | Effect::WatchForDemand { .. }
            | Effect::CloseListeners { .. }
            | Effect::ProcessRemoved { .. }
            | Effect::AppRemoved { .. }
            | Effect::Publish { .. }
            | Effect::Settle { .. } => (self.carry_out(effect), None),
        };
        for input in news.into_iter().chain(late.map(|run| Input::Delayed { run })) {
            self.input(input);
        }
    }

    /// What was said while nobody listened is still to be heard.
    fn count_silence_anew(&mut self) {
        let runs: Vec<Run> = self.supervisor.processes().flat_map(Process::staying).collect();
        runs.into_iter().for_each(|run| self.input(Input::WatchdogPing { run }));
    }

    /// Processes whose end nobody told of.
    fn bury_unseen(&mut self) {
        let gone: Vec<table::End> = self.runs.gone_unseen().into_iter().map(|pid| (pid, None)).collect();
        let mut news = self.runs.ended(&gone);
        news.extend(self.runs.emptied_unseen());
        self.all_inputs(news);
        let known = self.supervisor.processes().flat_map(Process::runs);
        let lost: Vec<Run> = known.filter(|run| self.runs.get(*run).is_none()).collect();
        let ended = |run| Input::Exited { run, exit: Exit::Unknown, survivors: false };
        self.all_inputs(lost.into_iter().map(ended).collect());
    }

    fn tell(&mut self, previous: Previous) {
        let after = previous.ended.map(|ended| table::exit(Some(ended), None));
        let gap_ms = clock::monotonic_ms().saturating_sub(previous.at);
        let lives = |live: &LiveRun| live.stat().is_some_and(|stat| !stat.is_zombie());
        let runs = self.runs.running().filter(|(_, live)| lives(live)).count();
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        let how = match previous.ended {
            Some(Ended::Signal(number)) => format!("was killed by {}", crate::spec::signal::name(number)),
            Some(Ended::Code(code)) => format!("ended with code {code}"),
            None => "is gone without a word".to_owned(),
        };
        let forgotten = self.resources.persistence.shared_memory.get(Word::ForgottenExits);
        if forgotten > 0 {
            tracing::error!("how {forgotten} processes ended is not known: too many ended while there was no daemon");
        }
        tracing::warn!("the daemon {how}; {runs} processes ran on and are taken over, {gap_ms} ms later");
        self.bus.greet_with(EventKind::Recovered { after, gap_ms, runs });
    }

    /// Becomes the keeper, as the keeper has died, and lets another God go on. Comes back only if that fails.
    pub(crate) fn replace_keeper(&mut self) {
        tracing::warn!("the keeper died: this process takes its place, and another daemon goes on");
        let shared_memory = &self.resources.persistence.shared_memory;
        shared_memory.set(Word::LastEnd, 0);
        shared_memory.set(Word::EndedAt, clock::monotonic_ms());
        let error = match std::fs::File::open("/proc/self/exe") {
            Ok(program) => crate::keeper::execute(shared_memory, &program, self.resources.home.root().as_os_str()),
            Err(error) => error,
        };
        tracing::error!("no new keeper could be made, so apps will not outlive this daemon: {error}");
        self.runs.go_alone();
        self.bury_unseen();
    }
}

/// The name of a line of daemons: no two homes, and no two beginnings of one, have the same.
pub fn new_lineage() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
