//! Signals to the processes of a run.

use super::RunTable;
use crate::os::process::{pidfd, tree};
use crate::protocol::Run;
use crate::spec::signal;

/// How often [`RunTable::kill`] looks for new processes of the tree at most, in case it grows meanwhile.
const KILL_ROUNDS: usize = 10;

impl RunTable {
    /// Sends a signal to a process of a run; after `SIGINT` also `SIGCONT`, since a stopped process can handle the signal
    /// only once it is continued. The signal to a main process is sent by its pidfd, so it cannot go to another process
    /// with the same pid. The pid of any other process of the tree must have been looked up just before.
    pub fn signal(&self, run: Run, pid: i32, number: i32) {
        let deliver = |number| match self.pidfd(run, pid) {
            Some(process) => pidfd::signal(process, number),
            None => tree::signal(pid, number),
        };
        let outcome = deliver(number);
        let outcome = if number == signal::INT { outcome.and_then(|()| deliver(libc::SIGCONT)) } else { outcome };
        if let Err(error) = outcome {
            tracing::warn!("{} to {pid}: {error}", signal::name(number));
        }
    }

    /// Kills all processes of a run.
    pub fn kill(&mut self, run: Run) {
        self.kill_group(run);
        let mut killed = Vec::new();
        for _ in 0..KILL_ROUNDS {
            // Processes that were killed stay in the tree until they are reaped.
            let new: Vec<i32> = self.tree(run).into_iter().filter(|pid| !killed.contains(pid)).collect();
            if new.is_empty() {
                return;
            }
            for pid in &new {
                self.signal(run, *pid, signal::KILL);
            }
            killed.extend(new);
        }
    }
}
