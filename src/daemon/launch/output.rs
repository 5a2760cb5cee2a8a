//! The output of runs: pipes kept in the ledger under a name until they have ended, each pumped into its log file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::super::runs::Runs;
use super::Launcher;
use crate::logs::{LineCounter, LineSearch, Output, Pumping};
use crate::protocol::Run;
use crate::supervisor::Supervisor;

/// What the names of output pipes in the ledger begin with.
pub(crate) const PREFIX: &str = "log/";

/// An output of a run, kept under a name.
pub(crate) struct KeptOutput {
    name: String,
    /// The read end.
    pipe: OwnedFd,
    /// A line in it makes the run ready.
    awaited: Option<Arc<LineSearch>>,
    /// Counts its lines: standard error only.
    counter: Option<Arc<LineCounter>>,
}

impl KeptOutput {
    /// The pipe that is kept under this name, with the awaited line and the line counter of its run.
    pub fn new(name: String, pipe: OwnedFd, supervisor: &Supervisor, runs: &mut Runs) -> KeptOutput {
        let run = run_of(&name);
        let awaited = run.and_then(|run| runs.checks.awaited_line(run, supervisor));
        let counter = run.filter(|_| name.ends_with("err")).map(|run| runs.stderr_rates.counter(run));
        KeptOutput { name, pipe, awaited, counter }
    }
}

impl Launcher {
    /// Copies the output from these pipes to the file at `path` until the pipes end; without a path the output is dropped.
    pub fn pump(&self, outputs: Vec<KeptOutput>, path: Option<&Path>) {
        let file = path.map(|path| self.logs.open(path));
        let output = |KeptOutput { name, pipe, awaited, counter }| {
            let file = file.clone();
            (name, Output { pipe, file, awaited, line_counter: counter })
        };
        let (names, outputs): (Vec<_>, Vec<_>) = outputs.into_iter().map(output).unzip();
        match self.logs.pump_all(outputs) {
            Ok(pumping) => names.into_iter().zip(pumping).for_each(|(name, pumping)| self.release_after(name, pumping)),
            Err(error) => {
                names.iter().for_each(|name| self.ledger.release(name));
                tracing::error!("output cannot be read: {error}");
            }
        }
    }

    /// Releases the name when the pipe has ended. The pipe's descriptor number may belong to another file by then, which is
    /// why the release goes by name.
    fn release_after(&self, name: String, pumping: Pumping) {
        let ledger = self.ledger.clone();
        tokio::task::spawn_local(async move {
            pumping.finished().await;
            ledger.release(&name);
        });
    }
}

/// The names under which the two output pipes of a run are kept: standard output, standard error.
pub(crate) fn output_names(run: Run) -> [String; 2] {
    ["out", "err"].map(|stream| format!("{PREFIX}{}/{stream}", run.0))
}

/// The run whose output is kept under this name.
pub(crate) fn run_of(name: &str) -> Option<Run> {
    name.split('/').nth(1)?.parse().ok().map(Run)
}
