//! The desired state as it is written to disk: which apps there are and which of their processes shall run.

use serde::{Deserialize, Serialize};

use crate::spec::AppSpec;

/// The desired state, as written to disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of this format.
    pub version: u32,
    /// The apps, by age.
    pub apps: Vec<SavedApp>,
}

/// One app in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedApp {
    /// What it is.
    pub spec: AppSpec,
    /// Its processes, by id.
    pub processes: Vec<SavedProcess>,
}

/// One process in a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedProcess {
    /// Its id, given again if it is free.
    pub id: u32,
    /// Its number within the app.
    pub instance: u32,
    /// True if it is to run.
    pub up: bool,
    /// True if it was idle: it starts when a client connects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

impl Snapshot {
    /// The version this build writes and reads.
    pub const VERSION: u32 = 1;
}
