//! `NOTIFY_SOCKET`: what programs say of themselves, as they would say it to systemd (`sd_notify(3)`).
//!
//! Each run that may want one has a socket of its own, so that what it said is known to be its also when the sender has
//! ended by the time we look, as the `systemd-notify` command does. A run has one if its app is given its sockets, says
//! by itself when it is ready (`wait_ready`), or has a watchdog. Others have none: some programs do other things when
//! there is one, and who comes from PM2 does not expect that.
//!
//! The socket is a file, which every language can write to: in the home, or where the app runs as another user, who
//! cannot enter the home, in `/run/pmr`. Where the app would not see that file, or its path is too long, it is an
//! abstract name. It is kept in the ledger: what is said while there is no God waits for the next one.
//!
//! A message counts if its sender is of the run's user, or root, and of its tree if it still lives.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::god::God;
use super::super::launch::child_fds::ChildFds;
use crate::keeper::{Ledger, Records};
use crate::os::net::datagram;
use crate::os::net::datagram::{Address, Sender};
use crate::os::net::socket;
use crate::os::process::credentials::Credentials;
use crate::os::process::{identity, proc};
use crate::paths::Home;
use crate::protocol::Run;
use crate::protocol::notify::{self, Note};
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::{Input, Proof};

/// Messages that were read and not heard yet. Then senders wait.
const WAITING: usize = 64;
/// The longest message, as systemd has it. What is beyond is cut.
const LONGEST: usize = 4096;
/// The longest path of a socket.
const LONGEST_PATH: usize = 107;
/// What keys and names of sockets begin with.
const KEY: &str = "notify/";

/// A message.
#[derive(Debug)]
pub struct NotifyMessage {
    run: Run,
    sender: Sender,
    notes: Vec<Note>,
    /// Closed when the message has had its effect, which a sender may wait for (`BARRIER=1`).
    files: Vec<OwnedFd>,
}

/// The sockets of all runs.
#[derive(Debug)]
pub struct Notifications {
    sockets: HashMap<Run, Socket>,
    heard: mpsc::Sender<NotifyMessage>,
    ledger: Ledger,
}

#[derive(Debug)]
struct Socket {
    known: Known,
    _reader: AbortOnDropHandle<()>,
}

/// What is written down of a socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    address: Address,
    /// Whose messages count.
    user: u32,
    /// What was said last.
    #[serde(default)]
    says: Says,
}

/// What a run says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Says {
    #[serde(default)]
    doing: Option<Doing>,
    #[serde(default)]
    status: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Doing {
    Reloading,
    Stopping,
}

/// The channel that messages come by.
#[must_use]
pub fn channel() -> (mpsc::Sender<NotifyMessage>, mpsc::Receiver<NotifyMessage>) {
    mpsc::channel(WAITING)
}

/// True if a process of this app is given a socket.
fn wants_one(spec: &AppSpec) -> bool {
    spec.readiness.wait_ready || spec.watchdog.is_some() || spec.mechanism() == Mechanism::Activation
}

/// Where the socket of a run is; `mark` names it among all runs of all daemons.
fn address(home: &Home, mark: &str, spec: &AppSpec, owner: Option<&Credentials>) -> Address {
    let path = match owner {
        None => home.notify().join(mark),
        Some(_) => Path::new("/run/pmr").join(format!("{mark}.notify")),
    };
    let hidden = spec.confinement.private_tmp && ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp));
    match path.as_os_str().len() {
        0..=LONGEST_PATH if !hidden => Address::Path(path),
        _ => Address::Abstract(format!("pmr/{mark}")),
    }
}

impl Notifications {
    /// None yet.
    #[must_use]
    pub fn new(heard: mpsc::Sender<NotifyMessage>, ledger: Ledger) -> Notifications {
        Notifications { sockets: HashMap::new(), heard, ledger }
    }

    /// Gives a run that is about to start what its app is to have of this.
    pub(crate) fn equip(
        &mut self,
        run: Run,
        (home, mark): (&Home, &str),
        spec: &AppSpec,
        owner: Option<&Credentials>,
        child_fds: &mut ChildFds,
    ) -> io::Result<()> {
        if !wants_one(spec) {
            return Ok(());
        }
        if let Some(time) = spec.watchdog {
            child_fds.tell("WATCHDOG_USEC", time.as_micros().to_string());
        }
        let address = address(home, mark, spec, owner);
        child_fds.tell("NOTIFY_SOCKET", address.to_string());
        if owner.is_some() {
            super::super::boot::home_dir::make_public()?;
        }
        let socket = datagram::open(&address, owner)?;
        let user = owner.map_or_else(identity::uid, |owner| owner.uid);
        self.listen(run, Known { address, user, says: Says::default() }, socket)
    }

    fn listen(&mut self, run: Run, known: Known, socket: OwnedFd) -> io::Result<()> {
        self.ledger.keep(&key(run), &socket);
        let socket = socket::watch(socket)?;
        let reader = AbortOnDropHandle::new(tokio::task::spawn_local(read(run, socket, self.heard.clone())));
        self.sockets.insert(run, Socket { known, _reader: reader });
        self.note(run);
        Ok(())
    }

    fn note(&self, run: Run) {
        let known = self.sockets.get(&run).and_then(|socket| serde_json::to_string(&socket.known).ok());
        match known {
            Some(json) => self.ledger.put(&key(run), &json),
            None => self.ledger.remove(&key(run)),
        }
        self.ledger.commit();
    }

    /// Takes over what the God before had. Those of runs that are gone meanwhile are removed.
    pub(crate) fn recover(
        &mut self,
        records: &Records,
        files: &mut HashMap<String, OwnedFd>,
        lives: impl Fn(Run) -> bool,
    ) {
        for (key, json) in records {
            let Some(run) = key.strip_prefix(KEY).and_then(|run| run.parse().ok()).map(Run) else { continue };
            let Ok(known) = serde_json::from_str::<Known>(json) else { continue };
            let address = known.address.clone();
            let heard = match files.remove(key) {
                Some(socket) if lives(run) => self.listen(run, known, socket).is_ok(),
                Some(_) | None => false,
            };
            if !heard {
                self.remove(run, &address);
            }
        }
    }

    /// The run is gone.
    pub(crate) fn forget(&mut self, run: Run) {
        if let Some(Socket { known, .. }) = self.sockets.remove(&run) {
            self.remove(run, &known.address);
        }
    }

    fn remove(&self, run: Run, address: &Address) {
        self.ledger.remove(&key(run));
        self.ledger.release(&key(run));
        self.ledger.commit();
        if let Address::Path(path) = address {
            // It may be gone with its folder.
            let _ = std::fs::remove_file(path);
        }
    }

    /// What the run says of itself, for people.
    #[must_use]
    pub fn says(&self, run: Run) -> Option<String> {
        let says = &self.sockets.get(&run)?.known.says;
        let doing = says.doing.map(|doing| match doing {
            Doing::Reloading => "reloading",
            Doing::Stopping => "stopping",
        });
        let words: Vec<&str> = doing.into_iter().chain(says.status.as_deref()).collect();
        (!words.is_empty()).then(|| words.join(": "))
    }

    fn take_down(&mut self, run: Run, change: impl FnOnce(&mut Says)) {
        if let Some(socket) = self.sockets.get_mut(&run) {
            change(&mut socket.known.says);
            self.note(run);
        }
    }
}

fn key(run: Run) -> String {
    format!("{KEY}{}", run.0)
}

/// Reads what comes, until it is aborted.
async fn read(run: Run, socket: AsyncFd<OwnedFd>, heard: mpsc::Sender<NotifyMessage>) {
    let mut buffer = vec![0; LONGEST];
    while let Ok(mut ready) = socket.readable().await {
        match datagram::receive(socket.get_ref(), &mut buffer) {
            Ok(message) => {
                let notes = notify::read(&buffer[..message.length]);
                let (sender, files) = (message.sender, message.files);
                if heard.send(NotifyMessage { run, sender, notes, files }).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return tracing::warn!(run = run.0, %error, "NOTIFY_SOCKET cannot be read"),
        }
    }
}

impl God {
    /// A program said something.
    pub(crate) fn heard(&mut self, NotifyMessage { run, sender, notes, files }: NotifyMessage) {
        if self.is_of(run, sender) {
            for note in notes {
                self.take_note(run, note);
            }
        } else {
            tracing::warn!("pid {} of user {} speaks for run {}, and is not of it", sender.pid, sender.uid, run.0);
        }
        drop(files);
    }

    fn is_of(&mut self, run: Run, sender: Sender) -> bool {
        let Some(socket) = self.notifications.sockets.get(&run) else { return false };
        let user = sender.uid == socket.known.user || sender.uid == 0;
        let lives = proc::stat(sender.pid).is_some_and(|stat| !stat.is_zombie());
        user && (!lives || self.runs.main(run) == Some(sender.pid) || self.runs.tree(run).contains(&sender.pid))
    }

    fn take_note(&mut self, run: Run, note: Note) {
        match note {
            Note::Ready => {
                self.notifications.take_down(run, |says| says.doing = None);
                self.input(Input::Ready { run, proof: Proof::Notified });
            }
            Note::Reloading => self.notifications.take_down(run, |says| says.doing = Some(Doing::Reloading)),
            Note::Stopping => {
                self.notifications.take_down(run, |says| says.doing = Some(Doing::Stopping));
                self.exclude(run);
            }
            Note::Status(text) => {
                let status = (!text.is_empty()).then_some(text);
                self.notifications.take_down(run, |says| says.status = status);
            }
            Note::WatchdogPing => self.input(Input::WatchdogPing { run }),
            Note::WatchdogTrigger => self.input(Input::WatchdogTrigger { run }),
            Note::MainPid(pid) if self.runs.main(run) == Some(pid) => {}
            Note::MainPid(pid) => match self.runs.replace_main(run, pid) {
                // Its checks are about another pid from now on.
                Ok(()) => self.check_health(run),
                Err(why) => tracing::warn!("run {} names {pid} its main process: {why}", run.0),
            },
        }
    }
}

/// Removes the sockets that a daemon left which died with its keeper: nobody reads them any more.
pub fn clear_leftovers(home: &Home, used: &Notifications) {
    let is_used = |path: &PathBuf| {
        used.sockets.values().any(|socket| matches!(&socket.known.address, Address::Path(known) if known == path))
    };
    let found = std::fs::read_dir(home.notify()).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in found.filter(|path| !is_used(path)) {
        let _ = std::fs::remove_file(path);
    }
}
