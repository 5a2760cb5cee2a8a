//! The desired state of a daemon that has ended, read from its records; and a fingerprint by which two desired states
//! are compared.
//!
//! The records are read app by app here. [`Supervisor::from_records`] would read all records or none, but at a boot one
//! app that cannot be read must not keep the others from being restored.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::keeper::{Ledger, Records};
use crate::protocol::info::EpochMs;
use crate::spec::AppSpec;
use crate::supervisor::{AppId, Goal, Operation, Process, RecordKey, SavedApp, SavedProcess, Snapshot, Supervisor};

/// Key of the [`Ending`].
pub const ENDING: &str = "ending";

/// Which processes should run, written when the shutdown of the daemon begins. From then on all goals are down, which is
/// not what the operator wants of the apps: only the machine or the daemon is to go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When the shutdown began.
    pub at: EpochMs,
    /// Ids of the processes whose goal was up when the shutdown began.
    pub up: Vec<u32>,
    /// Ids of those among them that were idle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<u32>,
}

impl Ending {
    /// Puts the record into the ledger. The caller commits.
    pub fn record(at: EpochMs, supervisor: &Supervisor, ledger: &Ledger) {
        let up: Vec<&Process> = supervisor.processes().filter(|process| supervisor.shall_run(process)).collect();
        let idle = up.iter().filter(|process| process.rests()).map(|process| process.id.0).collect();
        let ending = Ending { at, up: up.iter().map(|process| process.id.0).collect(), idle };
        ledger.put(ENDING, &serde_json::to_string(&ending).expect("numbers can be written as JSON"));
    }

    /// The record of a daemon whose shutdown had begun. `None` if the last daemon that wrote these records was not
    /// shutting down: then a record that an earlier daemon left does not count.
    #[must_use]
    pub fn of(records: &Records) -> Option<Ending> {
        let MetaPart { closing } = serde_json::from_str(records.get(&RecordKey::Meta.to_string())?).ok()?;
        serde_json::from_str(records.get(ENDING)?).ok().filter(|_| closing)
    }
}

// What is needed here of each kind of record; other fields are ignored.

#[derive(Deserialize)]
struct MetaPart {
    #[serde(default)]
    closing: bool,
}

#[derive(Deserialize)]
struct SpecPart {
    spec: AppSpec,
}

#[derive(Deserialize)]
struct ProcessPart {
    app: AppId,
    instance: u32,
    goal: Goal,
    /// Unparsed, since a later build may have written a state that this build does not know.
    #[serde(default)]
    state: serde_json::Value,
}

#[derive(Deserialize)]
struct WorkPart {
    operations: Vec<Operation>,
}

/// The desired state in these records, and notes on records that could not be read.
#[must_use]
pub fn of_records(records: &Records) -> (Snapshot, Vec<String>) {
    let ending = Ending::of(records);
    let (mut apps, mut notes) = (BTreeMap::new(), Vec::new());
    let (mut processes, mut operations) = (Vec::new(), Vec::new());
    for (key, json) in records {
        let read = match key.parse() {
            Ok(RecordKey::Spec(id)) => serde_json::from_str(json).map(|SpecPart { spec }| {
                apps.insert(id, SavedApp { spec, processes: vec![] });
            }),
            Ok(RecordKey::Process(id)) => serde_json::from_str(json).map(|part| processes.push((id, part))),
            Ok(RecordKey::Work(_)) => {
                serde_json::from_str(json).map(|part: WorkPart| operations.extend(part.operations))
            }
            Ok(RecordKey::Meta) | Err(_) => Ok(()),
        };
        notes.extend(read.err().map(|error| format!("the record `{key}` could not be used: {error}")));
    }
    // Records are sorted by key as text, which is not the order of ids.
    processes.sort_by_key(|(id, _)| *id);
    for (id, ProcessPart { app, instance, goal, state }) in processes {
        let last = operations.iter().rev().find_map(|operation| operation.wish(id));
        let up = ending.as_ref().map_or(last.unwrap_or(goal == Goal::Up), |ending| ending.up.contains(&id.0));
        let idle = ending.as_ref().map_or(state == "idle", |ending| ending.idle.contains(&id.0));
        if let Some(app) = apps.get_mut(&app).filter(|_| goal != Goal::Gone) {
            app.processes.push(SavedProcess { id: id.0, instance, up, idle });
        }
    }
    let apps = apps.into_values().filter(|app| !app.processes.is_empty()).collect();
    (Snapshot { version: Snapshot::VERSION, apps }, notes)
}

/// A hash of a desired state: equal states have equal fingerprints within one program. Process ids do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a saved list.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Fingerprint {
        let of = |app: &SavedApp| {
            let spec = of_spec(&app.spec);
            app.processes
                .iter()
                .map(|process| of_process(spec, process.instance, process.up))
                .fold(0, u64::wrapping_add)
        };
        Fingerprint(snapshot.apps.iter().map(of).fold(0, u64::wrapping_add))
    }
}

/// Computes fingerprints of a supervisor's desired state. The hash of a spec is kept and computed anew only when the spec
/// is another.
#[derive(Debug, Default)]
pub struct Fingerprints {
    specs: HashMap<AppId, (Arc<AppSpec>, u64)>,
}

impl Fingerprints {
    /// The fingerprint of the present state; it equals [`Fingerprint::of`] of [`Supervisor::snapshot`].
    pub fn of(&mut self, supervisor: &Supervisor) -> Fingerprint {
        if self.specs.len() > supervisor.apps().count() {
            self.specs.retain(|id, _| supervisor.app(*id).is_some());
        }
        let process = |process: &Process| {
            let spec = self.of_spec(process.app, &supervisor.app(process.app)?.spec);
            Some(of_process(spec, process.instance, supervisor.shall_run(process)))
        };
        let stays = |process: &&Process| process.goal != Goal::Gone;
        Fingerprint(supervisor.processes().filter(stays).filter_map(process).fold(0, u64::wrapping_add))
    }

    fn of_spec(&mut self, id: AppId, spec: &Arc<AppSpec>) -> u64 {
        match self.specs.get(&id) {
            // The `Arc` held here keeps its address from being used again, so the same address means the same spec.
            Some((known, hash)) if Arc::ptr_eq(known, spec) => *hash,
            _ => {
                let hash = of_spec(spec);
                self.specs.insert(id, (Arc::clone(spec), hash));
                hash
            }
        }
    }
}

fn of_process(spec: u64, instance: u32, up: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (spec, instance, up).hash(&mut hasher);
    hasher.finish()
}

fn of_spec(spec: &AppSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(spec).expect("a spec that was read from JSON can be written as JSON").hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
