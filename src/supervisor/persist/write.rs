//! From the state to records.

use serde::Serialize;

use super::key::RecordKey;
use super::records::{MetaRecord, SpecRecord, VERSION, WorkRecordRef};
use crate::supervisor::state::Supervisor;

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

    /// Marks a record as changed. Every change of recorded state has to call this.
    pub(crate) fn touch(&mut self, key: RecordKey) {
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
