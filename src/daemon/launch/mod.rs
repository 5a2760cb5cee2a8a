//! Starting a process: its command line, environment, descriptors, limits, and the watch on its binds; and the commands
//! that check its health, which get the same.
//!
//! [`Launcher`] has what is the same for all of them. In go a run, its process and its spec; out come a process that is
//! entered in [`Runs`](super::runs::Runs) and in the cluster of its app, or a
//! [`StartFailure`](spawn::StartFailure).

pub(crate) mod bind_watch;
mod check;
mod child_fds;
mod confine;
pub(crate) mod environment;
mod given_sockets;
pub(crate) mod output;
pub(crate) mod spawn;

use bind_watch::BindWatches;

use super::disk::pid_files::PidFiles;
use super::runs::table::RunTable;
use crate::keeper::Ledger;
use crate::logs::LogFiles;
use crate::os::cgroup::Cgroups;
use crate::paths::Home;
use crate::supervisor::{ProcessId, Supervisor};

/// Starts processes.
pub(crate) struct Launcher {
    /// `PMR_HOME`.
    pub home: Home,
    /// Name of the user the daemon runs as, and the apps that name no other.
    pub user: String,
    /// The open-file limit (soft, hard) the daemon was started with, which the apps get.
    pub file_limit: (u64, u64),
    /// Makes the control groups of runs.
    pub cgroups: Cgroups,
    /// The files output goes to.
    pub logs: LogFiles,
    /// Writes the pid files.
    pub pid_files: PidFiles,
    /// Keeps our ends of pipes and channels for the next God.
    pub ledger: Ledger,
    /// Makes the watches on binds.
    pub bind_watches: BindWatches,
}

impl Launcher {
    /// Writes the pid file of a process: it names the main process of its current run, or does not exist.
    pub fn update_pid_file(&self, id: ProcessId, supervisor: &Supervisor, table: &RunTable) {
        let Some(process) = supervisor.process(id) else { return };
        let Some(app) = supervisor.app(process.app) else { return };
        let (_, path) = environment::files(&self.home, &app.spec, process);
        self.pid_files.set(path, process.current_run().and_then(|run| table.main(run)));
    }
}
