//! The names of records, and the error for a record that cannot be used.

use std::fmt;
use std::str::FromStr;

use crate::supervisor::id::{AppId, ProcessId};

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
