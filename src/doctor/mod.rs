//! `pmr doctor`: what this machine, and the container we may be in, let pmr do, and what to do about the rest.
//!
//! Everything is found out by trying it, for the user who asks, without a daemon. Nothing is changed.

mod filesystem;
mod kernel;

use std::path::Path;

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
    fn good(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Good, found: found.into(), advice: None }
    }

    fn limited(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Limited, found: found.into(), advice: Some(advice.into()) }
    }

    fn missing(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { subject, health: Health::Missing, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at all of it, for the daemon of this home. `path` is the caller's PATH.
///
/// To be called on the thread that reaps our children, and where there is no other: some of it is tried in a child.
#[must_use]
pub fn examine(home: &Path, path: &str) -> Vec<Finding> {
    let mut findings = vec![
        filesystem::home(home),
        kernel::takeover(),
        kernel::balancer(),
        kernel::socket_figures(),
        kernel::queue_length(),
        kernel::low_ports(),
        kernel::control_groups(home),
        kernel::file_limit(),
        filesystem::boot(),
    ];
    findings.extend(filesystem::programs(path));
    findings
}

#[cfg(test)]
mod tests;
