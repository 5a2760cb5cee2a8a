//! Requests under way: each has a ticket, under which the supervisor answers it, and the sender of its answer.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::super::launch::environment;
use super::command::Reply;
use crate::logs::LogFiles;
use crate::paths::Home;
use crate::protocol::{Refusal, Report};
use crate::supervisor::{Process, Supervisor, Ticket};

/// The requests that have no answer yet.
#[derive(Default)]
pub(crate) struct Requests {
    replies: HashMap<Ticket, Reply>,
    last: u64,
}

impl Requests {
    /// A new ticket. Without a `reply` the answer is dropped.
    pub fn open(&mut self, reply: Option<Reply>) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.replies.extend(reply.map(|reply| (ticket, reply)));
        ticket
    }

    /// Sends the answer of the operation that has this ticket. If the answer names processes that failed, it waits until
    /// their last output is in the files at `error_logs`, since the client reads the reason there.
    pub fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Report, Refusal>,
        logs: &LogFiles,
        error_logs: impl FnOnce(&HashSet<&str>) -> Vec<PathBuf>,
    ) {
        let Some(reply) = self.replies.remove(&ticket) else { return };
        let failed = answer.iter().flat_map(|report| &report.lines).filter(|line| line.has_last_words());
        let awaited = error_logs(&failed.map(|line| &*line.name).collect());
        if awaited.is_empty() {
            let _ = reply.send(answer);
            return;
        }
        let logs = logs.clone();
        // Ends soon; a client that left does not matter.
        tokio::task::spawn_local(async move {
            logs.catch_up(move |path| awaited.iter().any(|log| log == path)).await;
            let _ = reply.send(answer);
        });
    }
}

/// The standard error files of all processes of the apps with these names.
pub(crate) fn error_logs(names: &HashSet<&str>, supervisor: &Supervisor, home: &Home) -> Vec<PathBuf> {
    let error_log = |process: &Process| {
        let spec = &supervisor.app(process.app)?.spec;
        names.contains(&*spec.name).then(|| environment::files(home, spec, process).0.err)?
    };
    supervisor.processes().filter_map(error_log).collect()
}
