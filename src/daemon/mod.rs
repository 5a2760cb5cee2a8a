//! The daemon: God and what surrounds it. This file holds only the entry that the command line's side needs to build.

use std::os::fd::OwnedFd;

use crate::paths::Home;

/// How the daemon is run.
pub struct Options {
    /// Its home.
    pub home: Home,
    /// Written `ok\n` when the sockets answer, or an error text; closed without a word if the daemon dies.
    pub readiness: Option<OwnedFd>,
    /// True: stay attached to the terminal.
    pub foreground: bool,
    /// Start what was saved before saying ready.
    pub resurrect: bool,
}

/// Runs the daemon until it is told to end.
pub fn run(options: Options) -> Result<(), String> {
    Err(format!("this build has no daemon for {}", options.home.root().display()))
}
