//! `NOTIFY_SOCKET`: what programs report of themselves, as they would report it to systemd (`sd_notify(3)`).
//!
//! Each run that may need one has a socket of its own. So the run of a message is known even if the sender has ended by
//! the time the message is read, as the `systemd-notify` command does. A run has a socket if its app is given its sockets,
//! reports by itself when it is ready (`wait_ready`), or has a watchdog. Other runs have none: some programs behave
//! differently when there is one, which users of PM2 do not expect.
//!
//! The socket is a file, which every language can write to. It lies in the home, or in `/run/pmr` where the app runs as
//! another user, who cannot enter the home. Where the app would not see that file, or its path is too long, it is an
//! abstract name. It is kept in the ledger: messages that come while there is no God wait for the next God.
//!
//! [`super::Runs::accept`] decides whether the sender of a message may speak for the run.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::disk::home_dir;
use crate::keeper::{Ledger, Records};
use crate::os::net::datagram;
use crate::os::net::datagram::{Address, Sender};
use crate::os::net::socket;
use crate::os::process::credentials::Credentials;
use crate::os::process::identity;
use crate::paths::Home;
use crate::protocol::Run;
use crate::protocol::notify::{self, Note};
use crate::spec::{AppSpec, Mechanism};

/// Messages that were read and wait for God. When there are as many, senders wait.
const WAITING: usize = 64;
/// Bytes of a message at most, as in systemd. A longer message is cut.
const MAX_MESSAGE: usize = 4096;
/// Bytes of a socket's path at most; the kernel's limit.
const MAX_PATH: usize = 107;
/// Prefix of the keys and names of sockets in the ledger.
const KEY: &str = "notify/";

/// A message that came to the socket of a run.
#[derive(Debug)]
pub(crate) struct NotifyMessage {
    /// The run whose socket it came to.
    pub run: Run,
    /// Pid and user of the sender, from the kernel.
    pub sender: Sender,
    /// The statements in it, in order.
    pub notes: Vec<Note>,
    /// Closed with the message, when it has had its effect: a sender may wait for that (`BARRIER=1`).
    _files: Vec<OwnedFd>,
}

/// The sockets of all runs.
#[derive(Debug)]
pub(crate) struct Notifications {
    sockets: HashMap<Run, Socket>,
    messages: mpsc::Sender<NotifyMessage>,
    ledger: Ledger,
}

#[derive(Debug)]
struct Socket {
    known: Known,
    _reader: AbortOnDropHandle<()>,
}

/// The record of a socket in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    address: Address,
    /// The user id whose messages count, beside root's.
    user: u32,
    /// The last report.
    #[serde(default, rename = "says")]
    report: Report,
}

/// What a run reported last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Report {
    #[serde(default, rename = "doing")]
    activity: Option<Activity>,
    #[serde(default)]
    status: Option<String>,
}

/// What a run reports to be doing, other than to serve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activity {
    Reloading,
    Stopping,
}

/// The channel by which messages get to God.
#[must_use]
pub(crate) fn channel() -> (mpsc::Sender<NotifyMessage>, mpsc::Receiver<NotifyMessage>) {
    mpsc::channel(WAITING)
}

/// True if each process of this app has a socket.
fn needs_socket(spec: &AppSpec) -> bool {
    spec.readiness.wait_ready || spec.watchdog.is_some() || spec.mechanism() == Mechanism::Activation
}

/// The address of a run's socket; `mark` is unique among all runs of all daemons.
fn address(home: &Home, mark: &str, spec: &AppSpec, owner: Option<&Credentials>) -> Address {
    let path = match owner {
        None => home.notify().join(mark),
        Some(_) => Path::new("/run/pmr").join(format!("{mark}.notify")),
    };
    let hidden = spec.confinement.private_tmp && ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp));
    match path.as_os_str().len() {
        0..=MAX_PATH if !hidden => Address::Path(path),
        _ => Address::Abstract(format!("pmr/{mark}")),
    }
}

impl Notifications {
    /// No socket yet. Messages go to `messages`.
    #[must_use]
    pub fn new(messages: mpsc::Sender<NotifyMessage>, ledger: Ledger) -> Notifications {
        Notifications { sockets: HashMap::new(), messages, ledger }
    }

    /// Opens the socket of a run that is about to start, if its app needs one. Returns the variables by which the process
    /// knows of it.
    pub fn open(
        &mut self,
        run: Run,
        (home, mark): (&Home, &str),
        spec: &AppSpec,
        owner: Option<&Credentials>,
    ) -> io::Result<Vec<(&'static str, String)>> {
        if !needs_socket(spec) {
            return Ok(Vec::new());
        }
        let watchdog = spec.watchdog.map(|time| ("WATCHDOG_USEC", time.as_micros().to_string()));
        let address = address(home, mark, spec, owner);
        let variables = watchdog.into_iter().chain([("NOTIFY_SOCKET", address.to_string())]).collect();
        if owner.is_some() {
            home_dir::make_public()?;
        }
        let socket = datagram::open(&address, owner)?;
        let user = owner.map_or_else(identity::uid, |owner| owner.uid);
        self.listen(run, Known { address, user, report: Report::default() }, socket)?;
        Ok(variables)
    }

    /// The user id whose messages count for this run, beside root's; `None` if the run has no socket.
    pub fn user(&self, run: Run) -> Option<u32> {
        self.sockets.get(&run).map(|socket| socket.known.user)
    }

    fn listen(&mut self, run: Run, known: Known, socket: OwnedFd) -> io::Result<()> {
        self.ledger.keep(&key(run), &socket);
        let socket = socket::watch(socket)?;
        let reader = AbortOnDropHandle::new(tokio::task::spawn_local(read(run, socket, self.messages.clone())));
        self.sockets.insert(run, Socket { known, _reader: reader });
        self.commit_record(run);
        Ok(())
    }

    fn commit_record(&self, run: Run) {
        let known = self.sockets.get(&run).and_then(|socket| serde_json::to_string(&socket.known).ok());
        match known {
            Some(json) => self.ledger.put(&key(run), &json),
            None => self.ledger.remove(&key(run)),
        }
        self.ledger.commit();
    }

    /// Takes over the sockets of the God before. Those of runs that have ended meanwhile are removed.
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
            let listens = match files.remove(key) {
                Some(socket) if lives(run) => self.listen(run, known, socket).is_ok(),
                Some(_) | None => false,
            };
            if !listens {
                self.remove(run, &address);
            }
        }
    }

    /// The run has ended: its socket is removed.
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

    /// The last report of a run, for people.
    #[must_use]
    pub fn report(&self, run: Run) -> Option<String> {
        let report = &self.sockets.get(&run)?.known.report;
        let activity = report.activity.map(|activity| match activity {
            Activity::Reloading => "reloading",
            Activity::Stopping => "stopping",
        });
        let words: Vec<&str> = activity.into_iter().chain(report.status.as_deref()).collect();
        (!words.is_empty()).then(|| words.join(": "))
    }

    /// Notes what a run reports to be doing; `None`: it serves.
    pub fn set_activity(&mut self, run: Run, activity: Option<Activity>) {
        self.update(run, |report| report.activity = activity);
    }

    /// Notes the status line of a run; an empty one removes the line before.
    pub fn set_status(&mut self, run: Run, text: String) {
        let status = (!text.is_empty()).then_some(text);
        self.update(run, |report| report.status = status);
    }

    fn update(&mut self, run: Run, change: impl FnOnce(&mut Report)) {
        if let Some(socket) = self.sockets.get_mut(&run) {
            change(&mut socket.known.report);
            self.commit_record(run);
        }
    }

    /// Removes the socket files that nobody reads: those of a daemon that died with its keeper.
    pub fn remove_leftovers(&self, home: &Home) {
        let is_used = |path: &PathBuf| {
            let files = self.sockets.values().map(|socket| &socket.known.address);
            files.into_iter().any(|address| matches!(address, Address::Path(used) if used == path))
        };
        let found = std::fs::read_dir(home.notify()).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in found.filter(|path| !is_used(path)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn key(run: Run) -> String {
    format!("{KEY}{}", run.0)
}

/// Reads messages until the task is aborted.
async fn read(run: Run, socket: AsyncFd<OwnedFd>, messages: mpsc::Sender<NotifyMessage>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    while let Ok(mut ready) = socket.readable().await {
        match datagram::receive(socket.get_ref(), &mut buffer) {
            Ok(message) => {
                let notes = notify::read(&buffer[..message.length]);
                let (sender, files) = (message.sender, message.files);
                if messages.send(NotifyMessage { run, sender, notes, _files: files }).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return tracing::warn!(run = run.0, %error, "NOTIFY_SOCKET cannot be read"),
        }
    }
}
