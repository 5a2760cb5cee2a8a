//! Waiting: how long connections do, how many may, and what becomes of those that have waited too long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// What becomes of connections that no worker is ready for. Where workers accept by themselves, their time counts while
/// none serves. It goes on when God dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueRule {
    /// The accept queue is at least this long, whatever the app asks for.
    pub backlog: Option<u32>,
    /// A worker has at most so many open at once; the others wait. For Node workers, and those on pmr's own channel.
    pub max_connections: Option<u32>,
    /// How long a connection waits for a worker; for ever if none.
    #[serde(with = "value::millis_option")]
    pub timeout: Option<Duration>,
    /// What it gets then.
    pub shed: Shed,
}

/// What a connection gets that has waited too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shed {
    /// A plain HTTP response with status 503.
    #[default]
    Answer,
    /// Its end.
    Close,
}
