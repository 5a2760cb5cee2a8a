//! The verbs of operations.

use serde::{Deserialize, Serialize};

use crate::protocol::Scale;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Start what is down, restart what is up.
    Start,
    /// Stop, then start.
    Restart,
    /// Replace by a ready successor.
    Reload,
    /// Stop and keep.
    Stop,
    /// Stop and forget.
    Delete,
    /// Add or remove processes.
    Scale(Scale),
}

impl Kind {
    /// The verb in reports.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Restart => "restart",
            Kind::Reload => "reload",
            Kind::Stop => "stop",
            Kind::Delete => "delete",
            Kind::Scale(_) => "scale",
        }
    }

    pub(crate) fn overtakes(self) -> bool {
        matches!(self, Kind::Stop | Kind::Delete)
    }
}
