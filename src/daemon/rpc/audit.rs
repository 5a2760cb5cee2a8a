//! Who asks for what, and is answered: noted with each process it is about, so that one can tell later who stopped it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::super::god::{God, Reply};
use super::super::launch::environment;
use crate::os::process::{identity, proc};
use crate::protocol::event::Requester;
use crate::protocol::{Action, EventKind, Launch, Refusal, Report, Rollout};
use crate::spec::AppSpec;
use crate::supervisor::{Input, Process, ProcessId, Request, Ticket};

/// Characters of a client's command line that are written down.
const LONGEST_COMMAND: usize = 200;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Process; 0 if the kernel did not tell.
    pub pid: i32,
}

impl Peer {
    /// The daemon itself, which brings back at its start what was saved.
    #[must_use]
    pub fn ourselves() -> Peer {
        Peer { uid: identity::uid(), pid: identity::pid() }
    }

    /// What is written down of it. It waits for our answer, so its command line can still be read.
    #[must_use]
    pub fn asker(self) -> Requester {
        let command = proc::command_line(self.pid).unwrap_or_default();
        Requester { uid: self.uid, pid: self.pid, command: command.chars().take(LONGEST_COMMAND).collect() }
    }
}

impl God {
    /// Lets the supervisor do what somebody asks for.
    pub(crate) fn asked(&mut self, ask: Request, by: &Requester, reply: Reply) {
        match &ask {
            Request::Act { action, target } => {
                // What names nothing is refused by the supervisor.
                let ids = self.supervisor.select(target).unwrap_or_default();
                if !is_dry(action) {
                    self.note_asked(ids, action.verb(), by);
                }
                self.put(ask, reply);
            }
            // Nothing is done to anybody.
            Request::Launch { how: Launch::OrReload(Rollout { dry_run: true, .. }), .. } => self.put(ask, reply),
            Request::Launch { apps, how } => {
                let (verb, keys): (_, Vec<_>) = (launch_verb(*how), apps.iter().map(key).collect());
                let known = self.processes_of(&keys);
                self.note_asked(known.clone(), verb, by);
                self.put(ask, reply);
                let new = self.processes_of(&keys).into_iter().filter(|id| !known.contains(id));
                // Whatever else was asked, what was not there can only have been started.
                self.note_asked(new.collect(), launch_verb(Launch::New), by);
            }
            Request::Restore(_) => self.put(ask, reply),
            Request::ShutDown => {
                let ids = self.supervisor.processes().map(|process| process.id).collect();
                self.note_asked(ids, "kill", by);
                self.end("a client's request", Some(reply));
            }
        }
    }

    fn put(&mut self, ask: Request, reply: Reply) {
        let ticket = self.ticket(Some(reply));
        self.input(Input::Request { ticket, ask });
    }

    /// An operation is over: its answer goes out. What those that failed said about it is in their logs by then, for there
    /// it is looked for.
    pub(crate) fn settle(&mut self, ticket: Ticket, answer: Result<Report, Refusal>) {
        self.ended |= self.ending == Some(ticket);
        let Some(reply) = self.tickets.remove(&ticket) else { return };
        let failed = answer.iter().flat_map(|report| &report.lines).filter(|line| line.has_last_words());
        let last_words = self.error_logs(&failed.map(|line| &*line.name).collect());
        if last_words.is_empty() {
            let _ = reply.send(answer);
            return;
        }
        let logs = self.resources.logs.clone();
        // Ends soon; a client that left does not matter.
        tokio::task::spawn_local(async move {
            logs.catch_up(move |path| last_words.iter().any(|words| words == path)).await;
            let _ = reply.send(answer);
        });
    }

    /// Where the processes of the apps with these names write their errors.
    fn error_logs(&self, names: &HashSet<&str>) -> Vec<PathBuf> {
        let error_log = |process: &Process| {
            let spec = &self.supervisor.app(process.app)?.spec;
            names.contains(&*spec.name).then(|| environment::files(&self.resources.home, spec, process).0.err)?
        };
        self.supervisor.processes().filter_map(error_log).collect()
    }

    fn note_asked(&mut self, ids: Vec<ProcessId>, verb: &str, by: &Requester) {
        for id in ids {
            self.publish(id, EventKind::Requested { verb: verb.to_owned(), by: by.clone() });
        }
    }

    /// Those of the apps with these names.
    fn processes_of(&self, keys: &[(String, String)]) -> Vec<ProcessId> {
        let apps: Vec<_> =
            self.supervisor.apps().filter(|app| keys.contains(&key(&app.spec))).map(|app| app.id).collect();
        self.supervisor.processes().filter(|known| apps.contains(&known.app)).map(|process| process.id).collect()
    }
}

fn is_dry(action: &Action) -> bool {
    matches!(action, Action::Reload { rollout: Rollout { dry_run: true, .. }, .. })
}

fn key(spec: &AppSpec) -> (String, String) {
    (spec.namespace.clone(), spec.name.clone())
}

fn launch_verb(how: Launch) -> &'static str {
    match how {
        Launch::New => "start",
        Launch::OrRestart => "restart",
        Launch::OrReload { .. } => "reload",
    }
}
