//! Which ports the workers of a cluster share, and how, if their `bind` is intercepted.

use serde::{Deserialize, Serialize};

/// The ports that a cluster shares, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// The shared ports; empty means all. Port 0 is never shared.
    pub ports: Vec<u16>,
    /// Where connections wait.
    pub share: Share,
}

/// Where connections wait until a worker accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Each worker has a queue of its own.
    #[default]
    Own,
    /// All workers have one queue: an idle worker accepts the next connection. No worker can be excluded from it.
    Queue,
}

impl Sharing {
    /// True if workers that bind this port share it.
    #[must_use]
    pub fn shares(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}
