//! Rules for connections that wait for a worker: how many, how long, and what happens afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// Rules for connections that wait for a worker. If workers accept for themselves, the time counts only while none of
/// them serves. It continues when God dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueRule {
    /// Minimum length of the accept queue, also if the app requests less.
    pub backlog: Option<u32>,
    /// Limit of open connections of a worker; further ones wait. For Node workers, and those on pmr's own channel.
    pub max_connections: Option<u32>,
    /// How long a connection waits for a worker; `None` is for ever.
    #[serde(with = "value::millis_option")]
    pub timeout: Option<Duration>,
    /// What happens after that time.
    pub shed: Shed,
}

/// What happens to a connection that has waited too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shed {
    /// It gets a plain HTTP response with status 503.
    #[default]
    Answer,
    /// It is closed.
    Close,
}
