//! Which balancer decides in the kernel, and why it is not a better one.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The balancer of a group, in ascending order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelBalancing {
    /// The kernel's own hash of addresses and ports.
    Hash,
    /// At random, among the members in rotation.
    Random,
    /// In turn, among the members in rotation.
    RoundRobin,
}

/// Why a group does not have a better balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The group has the balancer that was requested.
    Wanted,
    /// The kernel refused the better one with this `errno`: `EPERM` without `CAP_BPF`, `EOPNOTSUPP` for MPTCP.
    Refused(i32),
}

impl Reason {
    /// The reason for falling back after this error of the kernel.
    pub(super) fn refused(error: &io::Error) -> Reason {
        Reason::Refused(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Wanted => f.write_str("as wanted"),
            Reason::Refused(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}
