//! Signals to the processes of a run.

use super::RunTable;
use crate::os::process::{pidfd, tree};
use crate::protocol::Run;
use crate::spec::signal;

/// A kill is repeated until it finds no new process, in case the tree grows meanwhile; this often at most.
const KILL_ROUNDS: usize = 10;

impl RunTable {
    /// Sends a signal to a process of a run; after `SIGINT` also `SIGCONT`, since a paused process can act on it only
    /// then. A main process gets it by a descriptor, which never means another process. The pid of another process of the
    /// tree must have been looked up just now.
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
            // The dead stay in the tree until they are reaped.
            let fresh: Vec<i32> = self.tree(run).into_iter().filter(|pid| !killed.contains(pid)).collect();
            if fresh.is_empty() {
                return;
            }
            for pid in &fresh {
                self.signal(run, *pid, signal::KILL);
            }
            killed.extend(fresh);
        }
    }
}
