//! `pmr doctor`: what this machine, and the container we may be in, let pmr do, and what to do about the rest.
//!
//! Everything is found out by trying it, for the user who asks, without a daemon. Nothing is changed.

mod filesystem;
mod finding;
mod kernel;

use std::path::Path;

pub use finding::{Finding, Health};

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
