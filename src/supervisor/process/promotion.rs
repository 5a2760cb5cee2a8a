//! A successor and its predecessor, both alive: which of the two is stopped.

use serde::{Deserialize, Serialize};

/// When a successor takes over from its predecessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// As soon as it is ready.
    #[default]
    WhenReady,
    /// When it has been watched and found good.
    #[serde(rename = "after_trial")]
    AfterCanary,
    /// As soon as it is ready, or had its time to be.
    #[serde(rename = "in_any_case")]
    Unconditional,
}

impl Promotion {
    pub(crate) fn is_default(&self) -> bool {
        *self == Promotion::default()
    }
}
