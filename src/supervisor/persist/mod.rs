//! The whole state as records, so that a daemon that dies at any instant is followed by one that goes on.
//!
//! A record is a [`RecordKey`] and a JSON text. After every input [`Supervisor::changes`] hands out the records that
//! changed; all of them together, the later in place of the earlier, are the state, from which
//! [`Supervisor::from_records`] makes a supervisor that goes on where the other was. What changes often (a process, the
//! operations of an app) is small; what is big (specs, with their environments) has records of its own. Times are of
//! the machine's monotonic clock and hold for one boot. Answers are not kept: the client's connection ended with the
//! daemon, so operations come back with nobody waiting for them.
//!
//! # What the shell must do
//!
//! *Records before effects.* The changes of one input are written as one piece, which is read back as a whole or not at
//! all, before the first effect of that input is carried out. Then a daemon that dies in between leaves intentions, which
//! [`Supervisor::unfinished`] names. In the other order it would leave deeds that nobody remembers: a process that nobody
//! answers for, a stop that looks like a crash and is followed by a restart. Events, signals asked for and answers that
//! were not sent are lost: the clients that waited for them are cut off, too.
//!
//! A new daemon, before anything else:
//! 1. reads the records, [`Supervisor::from_records`];
//! 2. kills the trees of *stray runs*, those that live and for which [`Supervisor::process_of`] has nobody. There are
//!    none unless the last records were lost all the same (a full disk). Their numbers and those of exits not told yet
//!    are not given again: [`Supervisor::skip_runs_to`]. Of the others it admits each that is ready ([`Process::serving`]),
//!    but for those it passes over ([`Supervisor::is_ejected`]);
//! 3. carries out, in order, [`Supervisor::unfinished`]: a `Spawn` only if that run was not started before, a `Terminate` only if
//!    the stop signal was not sent before (two mean *at once* to many programs), `Drain` and `Kill` in any case, nothing
//!    for runs that are no longer there; `CloseListeners` and `WatchForDemand` in any case, twice does no harm. For a `Spawn` or `Terminate` done now it tells [`Input::Delayed`], and `Spawned` for
//!    every `Spawn`, done now or before, since that news may be lost;
//! 4. tells what happened in between, in order, and `Exited` for each run of a process whose main process is no longer
//!    there (see [`Process::runs`]), with [`Exit::Unknown`](crate::protocol::Exit) if nobody knows how it ended. An end
//!    that was told before stands: told again, it is only news of what it left behind;
//! 5. reports again which runs are ready, as far as it knows; twice does no harm;
//! 6. tells [`Input::WatchdogPing`] of runs with a watchdog: what they said while nobody listened does not count against them;
//! 7. if [`Supervisor::is_closing`], asks for the shutdown again, to hear when it is done;
//! 8. closes what it holds for apps that are not here.
//!
//! Nothing else needs a push. After every input each operation has been carried as far as it goes, so what is written
//! down waits for news of a run, which steps 3 to 5 bring, or for a moment, which [`Supervisor::next_deadline`] names.

mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{App, AppId, Effect, Moment, Operation, ProcessId, State, StopStage, StoppingRun, Supervisor};
#[cfg(doc)]
use super::{Input, Process};
use crate::protocol::Run;
use crate::spec::AppSpec;

/// Version of the records this build writes. It reads this one and all before.
const VERSION: u32 = 1;

/// Names one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// Version, counters, whether all is being shut down: `mind`.
    Meta,
    /// What an app is, and the specs its operations put into effect or return to: `spec/3`.
    Spec(AppId),
    /// Operations of an app, under way and waiting: `work/3`. Absent when there are none.
    Work(AppId),
    /// A process: `process/7`.
    Process(ProcessId),
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordKey::Meta => f.write_str("mind"),
            RecordKey::Spec(AppId(id)) => write!(f, "spec/{id}"),
            RecordKey::Work(AppId(id)) => write!(f, "work/{id}"),
            RecordKey::Process(ProcessId(id)) => write!(f, "process/{id}"),
        }
    }
}

/// A text that names no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey(pub String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` names no record", self.0)
    }
}

impl std::error::Error for UnknownKey {}

impl FromStr for RecordKey {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<RecordKey, UnknownKey> {
        let unknown = || UnknownKey(text.to_owned());
        if text == "mind" {
            return Ok(RecordKey::Meta);
        }
        let (kind, number) = text.split_once('/').ok_or_else(unknown)?;
        let number = number.parse().map_err(|_| unknown())?;
        match kind {
            "spec" => Ok(RecordKey::Spec(AppId(number))),
            "work" => Ok(RecordKey::Work(AppId(number))),
            "process" => Ok(RecordKey::Process(ProcessId(number))),
            _ => Err(unknown()),
        }
    }
}

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The record that cannot be used.
    pub key: RecordKey,
    /// What is the matter with it.
    pub why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record `{}`: {}", self.key, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// What can be told of [`MetaRecord`] whatever the version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct MetaRecord {
    version: u32,
    #[serde(default)]
    last_run: u64,
    #[serde(default)]
    next_app: u32,
    #[serde(default)]
    next_process: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closing: bool,
}

#[derive(Serialize, Deserialize)]
struct SpecRecord {
    spec: Arc<AppSpec>,
    /// Of the operations that have some, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    operations: Vec<OperationSpecs>,
}

#[derive(Serialize, Deserialize)]
struct OperationSpecs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Arc<AppSpec>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Arc<AppSpec>>,
}

#[derive(Deserialize)]
struct WorkRecord {
    operations: VecDeque<Operation>,
    /// Places of those whose specs stand with the app's.
    #[serde(default)]
    specs: Vec<usize>,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
struct WorkRecordRef<'a> {
    operations: &'a VecDeque<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    specs: Vec<usize>,
}

impl From<&App> for SpecRecord {
    fn from(app: &App) -> SpecRecord {
        let specs = |operation: &Operation| OperationSpecs {
            spec: operation.spec.clone(),
            previous: operation.previous.clone(),
        };
        let operations = app.operations.iter().filter(|operation| operation.has_specs()).map(specs);
        SpecRecord { spec: Arc::clone(&app.spec), operations: operations.collect() }
    }
}

// Writing.

impl Supervisor {
    /// The records that changed since the last call, as a piece; `None` stands for one that is no more. Costs nothing
    /// when nothing changed.
    pub fn changes(&mut self) -> Vec<(RecordKey, Option<String>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| (key, self.record(key))).collect()
    }

    /// All records as they are now, for a store that wants to be rid of old ones.
    pub fn all_records(&self) -> impl Iterator<Item = (RecordKey, String)> + '_ {
        let apps = self.apps.keys().flat_map(|id| [RecordKey::Spec(*id), RecordKey::Work(*id)]);
        let processes = self.processes.keys().copied().map(RecordKey::Process);
        let keys = std::iter::once(RecordKey::Meta).chain(apps).chain(processes);
        keys.filter_map(|key| Some((key, self.record(key)?)))
    }

    /// Notes that a record is not what it was. Whatever changes state that is written down says so.
    pub(super) fn touch(&mut self, key: RecordKey) {
        self.dirty.insert(key);
    }

    fn record(&self, key: RecordKey) -> Option<String> {
        match key {
            RecordKey::Meta => Some(json(&MetaRecord {
                version: VERSION,
                last_run: self.last_run,
                next_app: self.next_app,
                next_process: self.next_process,
                closing: self.closing,
            })),
            RecordKey::Spec(id) => self.apps.get(&id).map(|app| json(&SpecRecord::from(app))),
            RecordKey::Work(id) => {
                let operations = &self.apps.get(&id)?.operations;
                let places = operations.iter().enumerate().filter(|(_, operation)| operation.has_specs());
                let specs = places.map(|(at, _)| at).collect();
                (!operations.is_empty()).then(|| json(&WorkRecordRef { operations, specs }))
            }
            RecordKey::Process(id) => self.processes.get(&id).map(json),
        }
    }
}

fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("what came over the socket as JSON can be written as JSON")
}

// Going on.

impl Supervisor {
    /// Gives no run up to this one: the last records may be lost, and with them the process that had it.
    pub fn skip_runs_to(&mut self, run: Run) {
        if self.last_run < run.0 {
            self.last_run = run.0;
            self.touch(RecordKey::Meta);
        }
    }

    /// What a daemon that died may not have carried out, to be carried out in this order unless it was: first the
    /// listeners of apps that are down or have idle processes, then what concerns runs, by process.
    #[must_use]
    pub fn unfinished(&self, now: Moment) -> Vec<Effect> {
        let is_idle = |app: &AppId| self.members(*app).any(|process| process.state == State::Idle);
        // Before all else: what is carried out next may bring news that start an app that is down by now.
        let down = self.apps.keys().filter(|app| self.is_down(**app));
        let mut effects: Vec<Effect> = down.map(|app| Effect::CloseListeners { app: *app }).collect();
        let idle = self.apps.keys().filter(|app| is_idle(app));
        effects.extend(idle.map(|app| Effect::WatchForDemand { app: *app }));
        for process in self.processes.values() {
            match &process.state {
                State::Launching { run, .. } => effects.push(Effect::Spawn { run: *run, process: process.id }),
                State::Stopping(stopping) => effects.push(stopping.order(now)),
                State::Stopped
                | State::Canary { .. }
                | State::Online(_)
                | State::Waiting { .. }
                | State::Idle
                | State::Errored => {}
            }
            effects.extend(process.retiring.iter().map(|stopping| stopping.order(now)));
        }
        effects
    }
}

impl StoppingRun {
    /// What its run is to be told at this stage.
    fn order(&self, now: Moment) -> Effect {
        let run = self.run;
        match self.stage {
            StopStage::Draining { until } => Effect::Drain { run, grace: until.since(now) },
            StopStage::Terminating { .. } => Effect::Terminate { run },
            StopStage::Killing { .. } => Effect::Kill { run },
        }
    }
}
