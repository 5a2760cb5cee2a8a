//! Recovery: a God that follows another takes over what runs. See [`crate::supervisor::persist`] for the order of steps
//! and its reasons.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::god::God;
use super::super::launch::environment;
use super::super::launch::output::{KeptOutput, PREFIX, output_names, run_of};
use super::super::launch::spawn::worker_protocol;
use super::super::moment;
use super::super::runs::table;
use super::super::runs::table::LiveRun;
use crate::cluster::{self, RecoveredCluster};
use crate::keeper::exits::Inbox;
use crate::keeper::{Place, Previous, Records, Word};
use crate::os::cgroup::Cgroup;
use crate::os::process::reap::Ended;
use crate::os::process::{pidfd, proc, tree};
use crate::os::{clock, killpoint};
use crate::protocol::{EventKind, Run};
use crate::spec::signal;
use crate::supervisor::{AppId, Effect, Input, Process, State, Supervisor};

/// Files that the God before kept, by the names of their records in the ledger.
pub(crate) type Files = HashMap<String, OwnedFd>;

/// What the God before left.
pub(crate) struct RecoveredState {
    /// The records of its ledger.
    pub records: Records,
    /// The files it kept.
    pub files: Files,
    /// Connections that its clusters had written down, and where each was.
    pub connections: Vec<(OwnedFd, Place)>,
    /// All other sockets it had open.
    pub other_sockets: Vec<OwnedFd>,
    /// How and when it ended.
    pub previous: Previous,
}

impl God {
    /// Continues where the God before ended; `supervisor` is its state, read from its records.
    pub fn recover(&mut self, supervisor: Supervisor, mut left: RecoveredState, exits: &Inbox) {
        self.supervisor = supervisor;
        self.recover_runs(&left.records);
        self.runs.table.find_parents(&left.records, left.previous.ended.is_none());
        self.recover_clusters(&mut left);
        self.recover_output(&mut left.files);
        killpoint::pass("recovering");
        self.adopt_marked();
        kill_trees(&self.runs.table.leftover_checks());
        self.publish_recovery(left.previous);
        let table = &self.runs.table;
        self.runs.notifications.recover(&left.records, &mut left.files, |run| table.get(run).is_some());
        self.recover_channels(&mut left.files);
        self.drop_rest(left.files, left.connections, left.other_sockets);
        for effect in self.supervisor.unfinished(moment::now()) {
            self.finish(effect);
        }
        while let Some(dead) = exits.peek() {
            self.reap(&dead);
            exits.take();
        }
        killpoint::pass("recovered");
        self.handle_unreported_exits();
        for run in self.staying() {
            self.check_health(run);
        }
        self.runs.table.watch_foreign_children();
        self.clusters.resume_given_sockets(&self.supervisor);
        // The watchdogs are restarted: pings that were sent while there was no God have not been read yet.
        for run in self.staying() {
            self.input(Input::WatchdogPing { run });
        }
        if self.supervisor.is_closing() {
            self.end("the daemon before", None);
        }
    }

    /// The last step before the loop: what earlier daemons left and no run uses is removed, and the probation begins if this
    /// God came by an upgrade.
    pub fn begin(&mut self, previous: Option<Previous>) {
        self.runs.notifications.remove_leftovers(&self.launcher.home);
        // Empty control groups of earlier daemons are removed when they are dropped; those with processes stay.
        drop(self.launcher.cgroups.leftovers());
        let runs = self.runs.count();
        self.upgrade.begin(previous, runs);
    }

    /// The runs in the records.
    fn recover_runs(&mut self, records: &Records) {
        for (key, json) in records {
            let Some(run) = key.strip_prefix(table::KEY).and_then(|run| run.parse().ok()).map(Run) else { continue };
            match serde_json::from_str::<table::Record>(json) {
                Ok(table::Record { live, group }) => {
                    self.runs.table.set_group(run, Cgroup::reopen(&group));
                    self.recover_run(run, live);
                }
                Err(error) => tracing::error!("the record of run {} cannot be read: {error}", run.0),
            }
        }
    }

    fn recover_run(&mut self, run: Run, live: LiveRun) {
        self.supervisor.skip_runs_to(run);
        if let Some(process) = pidfd::reopen(live.pid, live.start) {
            self.runs.table.set_pidfd(run, process);
        }
        self.runs.table.insert(run, live);
    }

    fn recover_clusters(&mut self, left: &mut RecoveredState) {
        for app in self.supervisor.apps() {
            let recovered = RecoveredCluster {
                records: &left.records,
                files: &mut left.files,
                connections: &mut left.connections,
                rest: &mut left.other_sockets,
            };
            self.clusters.recover(app, &self.supervisor, recovered);
        }
    }

    /// The output of all runs, also of those that have ended: what is in their pipes belongs to the logs.
    fn recover_output(&mut self, files: &mut Files) {
        let names: Vec<String> = files.keys().filter(|name| name.starts_with(PREFIX)).cloned().collect();
        // By file, since a line that was cut must be finished before another pipe adds to its file.
        let mut by_file: BTreeMap<Option<PathBuf>, Vec<KeptOutput>> = BTreeMap::new();
        for name in names {
            let (Some(pipe), Some(path)) = (files.remove(&name), self.output_path(&name)) else { continue };
            self.ledger.keep(&name, &pipe);
            let output = KeptOutput::new(name, pipe, &self.supervisor, &mut self.runs);
            by_file.entry(path).or_default().push(output);
        }
        for (path, outputs) in by_file {
            self.launcher.pump(outputs, path.as_deref());
        }
    }

    /// The log file of the output that is kept under this name, `Some(None)` if it goes to no file; `None` if the run is
    /// not known.
    fn output_path(&self, name: &str) -> Option<Option<PathBuf>> {
        let run = run_of(name)?;
        let stream = usize::from(!name.ends_with("out"));
        if let Some(live) = self.runs.table.get(run) {
            return Some(live.logs[stream].clone());
        }
        let process = self.supervisor.process_of(run)?;
        let spec = &self.supervisor.app(process.app)?.spec;
        let (logs, _) = environment::files(&self.launcher.home, spec, process);
        Some([logs.out, logs.err][stream].clone())
    }

    /// Processes that carry the mark of a run and are in no record: the God before died between their start and the
    /// writing of their pid. Those of unknown runs are killed.
    fn adopt_marked(&mut self) {
        for (pid, run) in self.runs.table.of_unknown_runs() {
            let leads_session = proc::stat(pid).is_some_and(|stat| stat.session == pid);
            match self.supervisor.process_of(run).map(|process| process.app) {
                // The main process of a run leads a session.
                Some(app) if leads_session => {
                    let logs = output_names(run).map(|name| self.output_path(&name).flatten());
                    self.recover_run(run, LiveRun::new(pid, app, [0; 2], logs));
                }
                Some(_) => {}
                None => {
                    tracing::warn!("pid {pid} belongs to run {}, which is not known: it is killed", run.0);
                    kill_trees(&[pid]);
                }
            }
        }
    }

    /// Joins the workers to their clusters that the God before had started but not joined yet.
    fn recover_channels(&mut self, files: &mut Files) {
        let runs: Vec<(Run, AppId)> = self.runs.table.running().map(|(run, live)| (run, live.app)).collect();
        for (run, app) in runs {
            let (channel, watch) =
                (files.remove(&cluster::channel_name(run)), files.remove(&cluster::handover_name(run)));
            let Some(spec) = self.supervisor.app(app).map(|app| Arc::clone(&app.spec)) else { continue };
            let own = files.remove(&cluster::own_channel_name(run));
            let instance = self.supervisor.process_of(run).map_or(0, |process| process.instance);
            if self.is_launching(run) {
                self.clusters.mark_not_ready(run, app, &spec, &self.supervisor);
            }
            if let Some(channel) = channel {
                self.clusters.open(app, &spec).join(run, instance, channel, worker_protocol(&spec, own));
            }
            if let (Some(watch), Some(root)) = (watch, self.runs.table.main(run)) {
                self.clusters.open(app, &spec).expect_watch(run, root, watch.into());
            }
        }
    }

    /// Closes the files that no part of the daemon has taken over, and removes their records.
    fn drop_rest(&self, files: Files, connections: Vec<(OwnedFd, Place)>, rest: Vec<OwnedFd>) {
        for (name, file) in files {
            self.ledger.release(&name);
            drop(file);
        }
        for (connection, _) in connections {
            let number = connection.as_raw_fd();
            drop(connection);
            self.shared_memory.clear(number);
        }
        drop(rest);
    }

    fn is_launching(&self, run: Run) -> bool {
        let launches = |process: &Process| matches!(process.state, State::Launching { run: new, .. } if new == run);
        self.supervisor.process_of(run).is_some_and(launches)
    }

    /// Carries out an effect that the God before may not have carried out.
    fn finish(&mut self, effect: Effect) {
        let (input, delayed) = match effect {
            Effect::Spawn { run, .. } if self.runs.table.get(run).is_some() => (Some(Input::Spawned { run }), None),
            // Another run that was to be started with it could not be, and this one has been stopped.
            Effect::Spawn { run, .. } if !self.is_launching(run) => (None, None),
            Effect::Spawn { run, process } => (Some(self.spawn(run, process)), Some(run)),
            Effect::Terminate { run } if self.runs.table.get(run).is_none_or(|live| live.is_stopping) => (None, None),
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
        for input in input.into_iter().chain(delayed.map(|run| Input::Delayed { run })) {
            self.input(input);
        }
    }

    /// The runs that are not being replaced or stopped.
    fn staying(&self) -> Vec<Run> {
        self.supervisor.processes().flat_map(Process::staying).collect()
    }

    /// Has the supervisor handle the exits that were not reported to any God.
    pub fn handle_unreported_exits(&mut self) {
        let ended = self.runs.unreported_exits();
        self.all_inputs(ended);
        let lost = self.runs.lost(&self.supervisor);
        self.all_inputs(lost);
    }

    /// Publishes how the God before ended, and how many runs were taken over how much later.
    fn publish_recovery(&mut self, previous: Previous) {
        let after = previous.ended.map(|ended| table::exit(Some(ended), None));
        let gap_ms = clock::monotonic_ms().saturating_sub(previous.at);
        let lives = |live: &LiveRun| live.stat().is_some_and(|stat| !stat.is_zombie());
        let runs = self.runs.table.running().filter(|(_, live)| lives(live)).count();
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        let how = match previous.ended {
            Some(Ended::Signal(number)) => format!("was killed by {}", signal::name(number)),
            Some(Ended::Code(code)) => format!("ended with code {code}"),
            None => "has disappeared".to_owned(),
        };
        let forgotten = self.shared_memory.get(Word::ForgottenExits);
        if forgotten > 0 {
            tracing::error!("how {forgotten} processes ended is not known: too many ended while there was no daemon");
        }
        tracing::warn!("the daemon {how}; {gap_ms} ms later the next one takes over {runs} processes that run on");
        self.bus.greet_with(EventKind::Recovered { after, gap_ms, runs });
    }
}

/// Kills these processes and their descendants.
fn kill_trees(roots: &[i32]) {
    for pid in tree::descendants(roots) {
        // Fails if the process has ended meanwhile.
        let _ = tree::signal(pid, libc::SIGKILL);
    }
}

/// A name for a new lineage, the line of Gods that follow each other in one home: 16 random hexadecimal digits.
pub(crate) fn new_lineage() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
