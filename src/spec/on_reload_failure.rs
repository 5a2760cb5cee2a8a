//! What becomes of a reload when a new release fails.

use serde::{Deserialize, Serialize};

/// What a reload does when a successor dies, or does not prove ready and healthy in time. The words are those of
/// Docker Swarm's `--update-failure-action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReloadFailure {
    /// Stops, and brings every process back to the release before.
    #[default]
    Rollback,
    /// Stops and leaves everything as it is, for a person to look at.
    Pause,
    /// Goes on with the rest.
    Continue,
}
