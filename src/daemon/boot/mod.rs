//! From a started process to a God that runs: the daemon's sockets, and recovery of what an earlier daemon left.

pub(crate) mod adopt;
pub(crate) mod bootstrap;
pub(crate) mod recover;
pub(crate) mod sockets;
