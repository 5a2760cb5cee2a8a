//! Which ports the workers of a cluster share, and how, where that is done by taking over their binds.

use serde::{Deserialize, Serialize};

/// What of a cluster's sockets is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// These ports and no others; all, if it is empty. Port 0 is never shared.
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
    /// All workers have one queue: an idle worker takes the next connection. A worker cannot be kept out of it.
    Queue,
}

impl Sharing {
    /// True if workers that bind to this port are to share it.
    #[must_use]
    pub fn shares(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}
