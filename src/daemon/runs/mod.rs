//! The runs that are alive, and what is known of each: its processes, its health checks, what it reports to
//! `NOTIFY_SOCKET`, its lines on standard error, its memory.
//!
//! [`Runs`] is what the rest of the daemon holds. In go runs that were started ([`launch`](super::launch)), processes
//! that ended, messages of programs and readings of memory; out come [`Input`]s for the supervisor.

pub(crate) mod health;
pub(crate) mod notify;
pub(crate) mod sampler;
pub(crate) mod stderr_rate;
pub(crate) mod table;

use crate::os::process::proc;
use crate::protocol::notify::Note;
use crate::protocol::{Exit, Run};
use crate::supervisor::{Input, Process, Proof, Supervisor};
use health::HealthChecks;
use notify::{Activity, Notifications, NotifyMessage};
use stderr_rate::StderrRates;
use table::RunTable;

/// Everything about the runs that are alive.
pub(crate) struct Runs {
    /// Their processes.
    pub table: RunTable,
    /// What they report.
    pub notifications: Notifications,
    /// Their health checks.
    pub checks: HealthChecks,
    /// How much they write to standard error.
    pub stderr_rates: StderrRates,
}

/// What God must do after [`Runs::report`].
pub(crate) enum Reported {
    /// Nothing more.
    Nothing,
    /// Pass this input to the supervisor.
    Input(Input),
    /// The run stops by itself: it is to get no new connections.
    Stopping,
    /// Another process of the run's tree is its main process now: its health checks begin anew.
    MainReplaced,
}

impl Runs {
    /// The statements of a message, if its sender may report for the run: the sender's user is the run's or root, and a
    /// sender that is still alive belongs to the run's tree. None otherwise.
    pub fn accept(&mut self, message: &mut NotifyMessage) -> Vec<Note> {
        let (run, sender) = (message.run, message.sender);
        let user = self.notifications.user(run).is_some_and(|user| sender.uid == user || sender.uid == 0);
        let lives = || proc::stat(sender.pid).is_some_and(|stat| !stat.is_zombie());
        let is_of_tree =
            |table: &mut RunTable| table.main(run) == Some(sender.pid) || table.tree(run).contains(&sender.pid);
        if user && (!lives() || is_of_tree(&mut self.table)) {
            return std::mem::take(&mut message.notes);
        }
        tracing::warn!(
            "pid {} of user {} sent a message for run {}, but does not belong to it",
            sender.pid,
            sender.uid,
            run.0
        );
        Vec::new()
    }

    /// The number of runs that are alive.
    pub fn count(&mut self) -> u32 {
        u32::try_from(self.table.running().count()).unwrap_or(u32::MAX)
    }

    /// Handles one statement of a program.
    pub fn report(&mut self, run: Run, note: Note) -> Reported {
        match note {
            Note::Ready => {
                self.notifications.set_activity(run, None);
                return Reported::Input(Input::Ready { run, proof: Proof::Notified });
            }
            Note::Reloading => self.notifications.set_activity(run, Some(Activity::Reloading)),
            Note::Stopping => {
                self.notifications.set_activity(run, Some(Activity::Stopping));
                return Reported::Stopping;
            }
            Note::Status(text) => self.notifications.set_status(run, text),
            Note::WatchdogPing => return Reported::Input(Input::WatchdogPing { run }),
            Note::WatchdogTrigger => return Reported::Input(Input::WatchdogTrigger { run }),
            Note::MainPid(pid) if self.table.main(run) == Some(pid) => {}
            Note::MainPid(pid) => match self.table.replace_main(run, pid) {
                Ok(()) => return Reported::MainReplaced,
                Err(why) => tracing::warn!("pid {pid} cannot be the main process of run {}: {why}", run.0),
            },
        }
        Reported::Nothing
    }

    /// The main process of a run has ended; without survivors the whole run has ended.
    pub fn main_exited(&mut self, run: Run, survivors: bool) {
        if !survivors {
            self.notifications.forget(run);
        }
        self.checks.end(run);
        self.stderr_rates.forget(run);
    }

    /// A run that was prepared could not be started.
    pub fn abort(&mut self, run: Run) {
        self.checks.end(run);
        self.notifications.forget(run);
    }

    /// After a recovery: main processes and runs that ended without a report to any God.
    pub fn unreported_exits(&mut self) -> Vec<Input> {
        let ended: Vec<table::End> = self.table.unreported_exits().into_iter().map(|pid| (pid, None)).collect();
        let mut inputs = self.table.ended(&ended);
        inputs.extend(self.table.unreported_tree_exits());
        inputs
    }

    /// Exits of the runs that are alive for the supervisor but are not in the table. How they ended is not known.
    pub fn lost(&self, supervisor: &Supervisor) -> Vec<Input> {
        let known = supervisor.processes().flat_map(Process::runs);
        let lost = known.filter(|run| self.table.get(*run).is_none());
        lost.map(|run| Input::Exited { run, exit: Exit::Unknown, survivors: false }).collect()
    }
}
