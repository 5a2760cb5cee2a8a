//! From records back to a supervisor. What does not fit together is refused here, so that the rest can trust it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::key::{RecordKey, Unreadable};
use super::records::{MetaRecord, OperationSpecs, SpecRecord, VERSION, Version, WorkRecord};
use crate::spec::{AppSpec, Env};
use crate::supervisor::app::App;
use crate::supervisor::id::{AppId, ProcessId};
use crate::supervisor::process::Process;
use crate::supervisor::state::Supervisor;

/// A supervisor in the making.
#[derive(Default)]
struct Reading {
    supervisor: Supervisor,
    /// Specs whose operations have not been read yet.
    planned: BTreeMap<AppId, Vec<OperationSpecs>>,
    /// Each environment once: apps of one shell share theirs.
    envs: HashSet<Arc<Env>>,
}

impl Supervisor {
    /// The supervisor that these records are the state of; of no records, a fresh one. Of several records with one key
    /// the last counts.
    ///
    /// # Errors
    /// A record that cannot be read or does not fit the others, or records of a later version than this build's.
    pub fn from_records<'a>(records: impl Iterator<Item = (RecordKey, &'a str)>) -> Result<Supervisor, Unreadable> {
        // Sorted: the version comes before all else, apps before their operations and processes.
        let records: BTreeMap<RecordKey, &str> = records.collect();
        if records.keys().next().is_some_and(|first| *first != RecordKey::Meta) {
            return Err(Unreadable { key: RecordKey::Meta, why: "it is missing".to_owned() });
        }
        let mut reading = Reading::default();
        for (key, text) in records {
            reading.take_in(key, text).map_err(|why| Unreadable { key, why })?;
        }
        let mut supervisor = reading.supervisor;
        supervisor.last_ejected = supervisor.ejected();
        Ok(supervisor)
    }
}

impl Reading {
    fn take_in(&mut self, key: RecordKey, text: &str) -> Result<(), String> {
        match key {
            RecordKey::Meta => self.meta(text),
            RecordKey::Spec(id) => {
                self.app(id, parse(text)?);
                Ok(())
            }
            RecordKey::Work(id) => self.work(id, parse(text)?),
            RecordKey::Process(id) => self.process(id, parse(text)?),
        }
    }

    fn meta(&mut self, text: &str) -> Result<(), String> {
        let Version { version } = parse(text)?;
        if version > VERSION {
            return Err(format!("it was written by a later version (format {version})"));
        }
        let meta: MetaRecord = parse(text)?;
        let supervisor = &mut self.supervisor;
        supervisor.last_run = meta.last_run;
        supervisor.next_app = meta.next_app;
        supervisor.next_process = meta.next_process;
        supervisor.closing = meta.closing;
        Ok(())
    }

    fn app(&mut self, id: AppId, mut record: SpecRecord) {
        let planned = record.operations.iter_mut().flat_map(|specs| specs.spec.iter_mut().chain(&mut specs.previous));
        for spec in planned.chain([&mut record.spec]) {
            share_env(&mut self.envs, spec);
        }
        self.supervisor.apps.insert(id, App { id, spec: record.spec, operations: [].into() });
        self.planned.insert(id, record.operations);
    }

    fn work(&mut self, id: AppId, record: WorkRecord) -> Result<(), String> {
        let app = self.supervisor.apps.get_mut(&id).ok_or("its app is not there")?;
        app.operations = record.operations;
        let planned = self.planned.remove(&id).unwrap_or_default();
        if planned.len() != record.specs.len() {
            return Err("its operations are not those of the app's specs".to_owned());
        }
        for (at, specs) in record.specs.into_iter().zip(planned) {
            let operation = app.operations.get_mut(at).ok_or("it has specs for more operations than there are")?;
            (operation.spec, operation.previous) = (specs.spec, specs.previous);
        }
        Ok(())
    }

    fn process(&mut self, id: ProcessId, process: Process) -> Result<(), String> {
        let supervisor = &mut self.supervisor;
        if process.id != id {
            return Err(format!("it is about process {}", process.id.0));
        }
        if !supervisor.apps.contains_key(&process.app) {
            return Err("its app is not there".to_owned());
        }
        for run in process.runs() {
            if let Some(other) = supervisor.runs.insert(run, id) {
                return Err(format!("run {} is that of process {}, too", run.0, other.0));
            }
        }
        supervisor.processes.insert(id, process);
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn share_env(envs: &mut HashSet<Arc<Env>>, spec: &mut Arc<AppSpec>) {
    let spec = Arc::make_mut(spec);
    match envs.get(&spec.base_env) {
        Some(known) => spec.base_env = Arc::clone(known),
        None => drop(envs.insert(Arc::clone(&spec.base_env))),
    }
}
