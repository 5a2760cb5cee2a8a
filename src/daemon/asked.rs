//! Who asked for what: noted with each process it is about, so that one can tell later who stopped it.

use super::god::{God, Reply};
use crate::os::{identity, proc};
use crate::protocol::event::Asker;
use crate::protocol::{Action, EventKind, Launch, Rollout};
use crate::spec::AppSpec;
use crate::supervisor::{Ask, Input, ProcessId};

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
    pub fn asker(self) -> Asker {
        let command = proc::command_line(self.pid).unwrap_or_default();
        Asker { uid: self.uid, pid: self.pid, command: command.chars().take(LONGEST_COMMAND).collect() }
    }
}

impl God {
    /// Lets the supervisor do what somebody asks for.
    pub(super) fn asked(&mut self, ask: Ask, by: &Asker, reply: Reply) {
        match &ask {
            Ask::Act { action, target } => {
                // What names nothing is refused by the supervisor.
                let ids = self.supervisor.select(target).unwrap_or_default();
                if !is_dry(action) {
                    self.note_asked(ids, action.verb(), by);
                }
                self.put(ask, reply);
            }
            // Nothing is done to anybody.
            Ask::Launch { how: Launch::OrReload(Rollout { dry_run: true, .. }), .. } => self.put(ask, reply),
            Ask::Launch { apps, how } => {
                let (verb, keys): (_, Vec<_>) = (launch_verb(*how), apps.iter().map(key).collect());
                let known = self.processes_of(&keys);
                self.note_asked(known.clone(), verb, by);
                self.put(ask, reply);
                let new = self.processes_of(&keys).into_iter().filter(|id| !known.contains(id));
                // Whatever else was asked, what was not there can only have been started.
                self.note_asked(new.collect(), launch_verb(Launch::New), by);
            }
            Ask::Restore(_) => self.put(ask, reply),
            Ask::ShutDown => {
                let ids = self.supervisor.processes().map(|process| process.id).collect();
                self.note_asked(ids, "kill", by);
                self.end("a client's request", Some(reply));
            }
        }
    }

    fn put(&mut self, ask: Ask, reply: Reply) {
        let ticket = self.ticket(Some(reply));
        self.input(Input::Ask { ticket, ask });
    }

    fn note_asked(&mut self, ids: Vec<ProcessId>, verb: &str, by: &Asker) {
        for id in ids {
            self.publish(id, EventKind::Asked { verb: verb.to_owned(), by: by.clone() });
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
