//! What `pmr doctor` reports of one thing.

use serde::Serialize;

/// What one thing that pmr can do depends on, and how it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing: `cluster mode for any program`.
    pub subject: &'static str,
    /// How it is.
    pub health: Health,
    /// What was found, in words.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How well something works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As well as anywhere.
    Good,
    /// It works, with less.
    Limited,
    /// It does not, and pmr needs it.
    Missing,
}

impl Finding {
    pub(super) fn good(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Good, found: found.into(), advice: None }
    }

    pub(super) fn limited(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Limited, found: found.into(), advice: Some(advice.into()) }
    }

    pub(super) fn missing(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Missing, found: found.into(), advice: Some(advice.into()) }
    }
}
