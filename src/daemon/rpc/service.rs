//! The methods of the RPC: each sends a command to God and waits for the answer. A method may be cancelled at any time,
//! since tarpc does so when a client hangs up or its deadline passes. The work itself is done by God and goes on.

use std::path::PathBuf;
use std::sync::PoisonError;

use tarpc::context::Context;
use tokio::sync::{mpsc, oneshot};

use super::super::disk::desired::Fingerprint;
use super::super::disk::dump;
use super::super::disk::dump::{KnownList, SavedList};
use super::super::upgrade;
use super::audit::Peer;
use super::command::Command;
use crate::os::clock;
use crate::os::thread_pool::Threads;
use crate::paths::Home;
use crate::protocol::{
    Action, Daemon, Described, EventKind, Hello, Launch, ProcessInfo, Refusal, Report, Saved, Successor, Upgraded,
};
use crate::spec::AppSpec;
use crate::spec::target::Selector;
use crate::supervisor::Request;

/// What answers the requests of one connection; each connection has a clone with its own `peer`.
#[derive(Clone)]
pub struct Service {
    /// Sends commands to God.
    pub god: mpsc::Sender<Command>,
    /// The answer to `hello`, without the warnings of the moment.
    pub hello: Hello,
    /// The home folder, in which the list is saved.
    pub home: Home,
    /// The list that was saved last, shared with God.
    pub saved: KnownList,
    /// The lineage of this daemon; see [`super::super::boot::recover::new_lineage`].
    pub lineage: String,
    /// Threads for work on files.
    pub threads: Threads,
    /// The client of this connection.
    pub peer: Peer,
}

impl Service {
    /// Sends a command to God and waits for its answer; `None` if God has ended.
    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.god.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Does work on files on another thread, so that a slow disk does not block God's.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let bug = || Refusal::Failed { doing: "working with files".into(), error: "a bug in pmr".into() };
        self.threads.outcome(work).await.unwrap_or_else(|| Err(bug()))
    }

    /// Has the supervisor carry out a request, and waits for its report.
    async fn request(&self, request: Request) -> Result<Report, Refusal> {
        let by = self.peer.requester();
        self.send(|reply| Command::Request(request, by, reply)).await.unwrap_or(Err(Refusal::ShuttingDown))
    }
}

impl Daemon for Service {
    async fn hello(self, _: Context) -> Hello {
        let warnings = self.send(Command::DaemonWarnings).await.unwrap_or_default();
        Hello { warnings, ..self.hello }
    }

    async fn launch(self, _: Context, apps: Vec<AppSpec>, how: Launch) -> Result<Report, Refusal> {
        self.request(Request::Launch { apps, how }).await
    }

    async fn act(self, _: Context, action: Action, target: Vec<Selector>) -> Result<Report, Refusal> {
        match action {
            Action::Flush => self.send(|reply| Command::Flush(target, reply)).await,
            Action::ReopenLogs => self.send(Command::ReopenLogs).await,
            action => return self.request(Request::Act { action, target }).await,
        }
        .unwrap_or(Err(Refusal::ShuttingDown))
    }

    async fn list(self, _: Context) -> Vec<ProcessInfo> {
        self.send(Command::List).await.unwrap_or_default()
    }

    async fn describe(self, _: Context, target: Vec<Selector>) -> Result<Described, Refusal> {
        let described = self.send(|reply| Command::Describe(target, reply)).await;
        described.unwrap_or(Err(Refusal::ShuttingDown)).map(Described::from)
    }

    async fn save(self, _: Context, force: bool) -> Result<Saved, Refusal> {
        let snapshot = self.send(Command::Snapshot).await.ok_or(Refusal::ShuttingDown)?;
        if snapshot.apps.is_empty() && !force {
            return Err(Refusal::NothingToSave);
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let processes = count(snapshot.apps.iter().map(|app| app.processes.len()).sum());
        let apps = count(snapshot.apps.len());
        let (home, known) = (self.home.clone(), self.saved.clone());
        let path = self
            .on_disk(move || {
                let path = dump::save(&home, &snapshot)?;
                let saved = SavedList { at: clock::epoch_ms(), fingerprint: Fingerprint::of(&snapshot) };
                *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
                Ok(path)
            })
            .await?;
        let _ = self.god.send(Command::Publish(EventKind::Saved)).await;
        Ok(Saved { path, apps, processes })
    }

    async fn resurrect(self, _: Context) -> Result<Report, Refusal> {
        let (home, lineage) = (self.home.clone(), self.lineage.clone());
        let (snapshot, notes) = self.on_disk(move || dump::load(&home, &lineage)).await?;
        let mut report = self.request(Request::Restore(snapshot)).await?;
        report.notes.splice(0..0, notes);
        Ok(report)
    }

    async fn upgrade(self, _: Context, program: PathBuf, check: bool) -> Result<Successor, Refusal> {
        let failed = |error: String| Refusal::Failed { doing: "reading the state".into(), error };
        let ledger = self.send(Command::Ledger).await.ok_or(Refusal::ShuttingDown)?;
        let (ledger, runs) = ledger.map_err(|error| failed(error.to_string()))?;
        let (file, version) = self.on_disk(move || upgrade::check_program(&program, ledger)).await?;
        if check {
            return Ok(Successor { version, runs });
        }
        self.send(|reply| Command::HandOver(file, version, reply)).await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    async fn upgraded(self, _: Context) -> Upgraded {
        self.send(Command::Upgraded).await.unwrap_or(Upgraded::NotAsked)
    }

    async fn shut_down(self, _: Context) -> Report {
        self.request(Request::ShutDown).await.unwrap_or_default()
    }
}
