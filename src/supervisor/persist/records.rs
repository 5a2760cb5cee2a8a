//! What the records hold, but for those of processes, which are the processes themselves.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::AppSpec;
use crate::supervisor::app::App;
use crate::supervisor::operation::Operation;

/// Version of the records this build writes. It reads this one and all before.
pub(super) const VERSION: u32 = 1;

/// The part of [`MetaRecord`] that every version has.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MetaRecord {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) last_run: u64,
    #[serde(default)]
    pub(super) next_app: u32,
    #[serde(default)]
    pub(super) next_process: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) closing: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SpecRecord {
    pub(super) spec: Arc<AppSpec>,
    /// Of the operations that have some, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) operations: Vec<OperationSpecs>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OperationSpecs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spec: Option<Arc<AppSpec>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Arc<AppSpec>>,
}

#[derive(Deserialize)]
pub(super) struct WorkRecord {
    pub(super) operations: VecDeque<Operation>,
    /// Places of those whose specs stand with the app's.
    #[serde(default)]
    pub(super) specs: Vec<usize>,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
pub(super) struct WorkRecordRef<'a> {
    pub(super) operations: &'a VecDeque<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) specs: Vec<usize>,
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
