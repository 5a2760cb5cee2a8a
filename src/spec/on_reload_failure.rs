//! The policy for a reload whose new processes fail.

use serde::{Deserialize, Serialize};

/// What a reload does when a successor dies, or is not ready and healthy in time. The names are those of Docker Swarm's
/// `--update-failure-action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReloadFailure {
    /// Stops, and rolls every process back to the previous release.
    #[default]
    Rollback,
    /// Stops and leaves all processes as they are, for an operator to inspect.
    Pause,
    /// Continues with the other processes.
    Continue,
}
