//! Records which client made a request. The record is published for each process that the request is about, so that an
//! operator can find out later which client stopped it.

use crate::os::process::{identity, proc};
use crate::protocol::event::Requester;
use crate::protocol::{Action, EventKind, Launch, Rollout};
use crate::spec::AppSpec;
use crate::supervisor::{ProcessId, Request, Supervisor};

/// Characters of a client's command line that are kept.
const LONGEST_COMMAND: usize = 200;

/// The process at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its user id.
    pub uid: u32,
    /// Its pid; 0 if the kernel does not know it.
    pub pid: i32,
}

impl Peer {
    /// The daemon itself, which restores the saved list at its start.
    #[must_use]
    pub fn ourselves() -> Peer {
        Peer { uid: identity::uid(), pid: identity::pid() }
    }

    /// What is recorded of the client. It waits for our answer, so its command line can still be read.
    #[must_use]
    pub fn requester(self) -> Requester {
        let command = proc::command_line(self.pid).unwrap_or_default();
        Requester { uid: self.uid, pid: self.pid, command: command.chars().take(LONGEST_COMMAND).collect() }
    }
}

/// Namespace and name of an app.
type AppKey = (String, String);

/// The record of one request: made before the supervisor gets it, and completed after.
pub(crate) struct Audit<'a> {
    by: &'a Requester,
    verb: &'static str,
    /// Processes that exist before the request and that it is about.
    known: Vec<ProcessId>,
    /// Apps that the request launches.
    launched: Vec<AppKey>,
}

impl<'a> Audit<'a> {
    /// Finds the processes that a request is about, among those that exist before it. There are none for a dry run, which
    /// changes nothing, and for a restored list, whose processes do not exist yet.
    pub fn new(request: &Request, by: &'a Requester, supervisor: &Supervisor) -> Audit<'a> {
        let nothing = Audit { by, verb: "", known: Vec::new(), launched: Vec::new() };
        match request {
            Request::Act { action, .. } if is_dry(action) => nothing,
            // A target that matches nothing is refused by the supervisor.
            Request::Act { action, target } => {
                Audit { verb: action.verb(), known: supervisor.select(target).unwrap_or_default(), ..nothing }
            }
            Request::Launch { how: Launch::OrReload(Rollout { dry_run: true, .. }), .. } | Request::Restore(_) => {
                nothing
            }
            Request::Launch { apps, how } => {
                let launched: Vec<AppKey> = apps.iter().map(key).collect();
                let known = processes_of(&launched, supervisor);
                Audit { verb: launch_verb(*how), known, launched, ..nothing }
            }
            Request::ShutDown => {
                Audit { verb: "kill", known: supervisor.processes().map(|process| process.id).collect(), ..nothing }
            }
        }
    }

    /// The events to publish before the supervisor gets the request.
    pub fn before(&self) -> Vec<(ProcessId, EventKind)> {
        self.known.iter().map(|id| (*id, self.event(self.verb))).collect()
    }

    /// The events to publish once the supervisor has handled the request: about processes that it made.
    pub fn after(&self, supervisor: &Supervisor) -> Vec<(ProcessId, EventKind)> {
        let new = processes_of(&self.launched, supervisor).into_iter().filter(|id| !self.known.contains(id));
        // Whatever else was requested, a process that did not exist can only have been started.
        new.map(|id| (id, self.event(launch_verb(Launch::New)))).collect()
    }

    fn event(&self, verb: &str) -> EventKind {
        EventKind::Requested { verb: verb.to_owned(), by: self.by.clone() }
    }
}

fn processes_of(keys: &[AppKey], supervisor: &Supervisor) -> Vec<ProcessId> {
    let apps: Vec<_> = supervisor.apps().filter(|app| keys.contains(&key(&app.spec))).map(|app| app.id).collect();
    supervisor.processes().filter(|known| apps.contains(&known.app)).map(|process| process.id).collect()
}

fn is_dry(action: &Action) -> bool {
    matches!(action, Action::Reload { rollout: Rollout { dry_run: true, .. }, .. })
}

fn key(spec: &AppSpec) -> AppKey {
    (spec.namespace.clone(), spec.name.clone())
}

fn launch_verb(how: Launch) -> &'static str {
    match how {
        Launch::New => "start",
        Launch::OrRestart => "restart",
        Launch::OrReload { .. } => "reload",
    }
}
