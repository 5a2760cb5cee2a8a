//! The daemon as commands talk to it: connection, deadlines, version, Ctrl-C.
//!
//! Work belongs to the daemon: a command that is interrupted or runs out of time has only stopped waiting.

mod account_env;
mod connect;
mod progress;
mod spawn;
mod suspended;

use std::cell::{OnceCell, RefCell};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;
use tarpc::client::RpcError;
use tarpc::context;
use tokio::net::UnixStream;
use tokio_util::codec::LengthDelimitedCodec;

use self::connect::{Connection, connect};
use self::progress::Scope;
use self::spawn::start_daemon;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::cli::view;
use crate::paths::Home;
use crate::protocol::wire::{JsonCodec, MAX_FRAME};
use crate::protocol::{
    Action, DaemonClient, DaemonWarnings, Description, Hello, Launch, ProcessInfo, Refusal, Report, Saved, Successor,
    Upgraded, VERSION,
};
use crate::settings::Settings;
use crate::spec::AppSpec;
use crate::spec::target::Selector;

/// Limit for `hello`, which a healthy daemon answers at once unless the machine is very busy.
const GREETING: Duration = Duration::from_secs(10);
/// After so long without an answer the client checks whether the daemon is stopped by a signal.
const DOUBT: Duration = Duration::from_secs(2);
/// A list may be long and the machine busy.
const READING: Duration = Duration::from_secs(30);
/// An operation takes as long as the apps need: no deadline in practice. (tarpc cannot carry more than two years.)
const WORKING: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection to the daemon. Whether the daemon answers is known after the first request.
pub struct Client {
    line: RefCell<Line>,
    /// The warnings in its answer to `hello`, once that has come.
    greeted: OnceCell<DaemonWarnings>,
    /// Starts a daemon where there is none.
    starts: bool,
    ui: Ui,
    home: Home,
}

/// A connection.
#[derive(Clone)]
struct Line {
    rpc: DaemonClient,
    peer: Option<i32>,
    /// Which connection of this client it is, from 1.
    call: u32,
}

impl Line {
    fn over(stream: UnixStream, call: u32) -> Line {
        let peer = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
        let transport = tarpc::serde_transport::new(framed, JsonCodec::default());
        let rpc = DaemonClient::new(tarpc::client::Config::default(), transport).spawn();
        Line { rpc, peer, call }
    }
}

impl Client {
    /// The daemon of this home, which must be running.
    pub async fn connect(home: &Home, ui: Ui) -> Result<Client, Failure> {
        Client::find(home, ui).await?.ok_or_else(|| Failure::no_daemon(home.root()))
    }

    /// The daemon of this home, if one runs.
    pub async fn find(home: &Home, ui: Ui) -> Result<Option<Client>, Failure> {
        Ok(match connect(home).await? {
            Connection::Open(stream) => Some(Client::over(stream, false, home, ui)),
            Connection::NoDaemon => None,
        })
    }

    /// The daemon of this home, started if none runs.
    pub async fn connect_or_start(home: &Home, ui: Ui) -> Result<Client, Failure> {
        let stream = match connect(home).await? {
            Connection::Open(stream) => stream,
            Connection::NoDaemon => start_daemon(home).await?,
        };
        Ok(Client::over(stream, true, home, ui))
    }

    fn over(stream: UnixStream, starts: bool, home: &Home, ui: Ui) -> Client {
        Client { line: RefCell::new(Line::over(stream, 1)), greeted: OnceCell::new(), starts, ui, home: home.clone() }
    }

    /// The same client, which starts a daemon if this one ends before it has answered: one that was killed takes
    /// connections for as long as its last thread lives.
    #[must_use]
    pub fn or_start(self) -> Client {
        Client { starts: true, ..self }
    }

    /// Pid of the process at the other end, as the kernel knows it.
    #[must_use]
    pub fn peer(&self) -> Option<i32> {
        self.line.borrow().peer
    }

    fn line(&self) -> Line {
        self.line.borrow().clone()
    }

    /// Connects again after the daemon died: its keeper starts another in its place. Only for requests that change nothing,
    /// which may be sent twice.
    async fn call_again(&self, lost: &Line) -> Result<(), Failure> {
        if self.line.borrow().call != lost.call {
            return Ok(());
        }
        let stream = match connect(&self.home).await? {
            Connection::Open(stream) => stream,
            Connection::NoDaemon if self.starts => start_daemon(&self.home).await?,
            Connection::NoDaemon => return Err(Failure::no_daemon(self.home.root())),
        };
        *self.line.borrow_mut() = Line::over(stream, lost.call + 1);
        Ok(())
    }

    /// Greets the daemon. Warns once if versions differ, or if the daemon cannot write its state.
    pub async fn hello(&self) -> Result<Hello, Failure> {
        let line = self.line();
        let hello = match self.greeting(&line).await {
            Err(error) if is_cut(&error) => {
                self.call_again(&line).await?;
                self.greeting(&self.line()).await
            }
            answer => answer,
        };
        let hello = hello.map_err(|error| self.no_answer(&error))?;
        if self.greeted.set(hello.warnings.clone()).is_ok() {
            if hello.version != VERSION {
                self.ui.warn(&mismatch(&hello));
            }
            if let Some(unwritten) = &hello.warnings.unwritten {
                self.ui.warn(&view::daemon_warnings::unwritten(unwritten, self.has_autosave(), &Zoned::now()));
            }
        }
        Ok(hello)
    }

    /// The answer to `hello`. A daemon that is stopped by a signal is not waited for.
    async fn greeting(&self, line: &Line) -> Result<Hello, RpcError> {
        let mut answer = std::pin::pin!(line.rpc.hello(within(GREETING)));
        loop {
            match tokio::time::timeout(DOUBT, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if suspended::find(&self.home, line.peer).is_some() => return Err(RpcError::DeadlineExceeded),
                Err(_) => {}
            }
        }
    }

    /// True if what runs comes back after a reboot, saved or not.
    fn has_autosave(&self) -> bool {
        Settings::read(&self.home).is_ok_and(|settings| settings.autosave)
    }

    /// If what runs is not what was saved: what a reboot would bring back, in a sentence.
    #[must_use]
    pub fn unsaved(&self) -> Option<String> {
        let saved = self.greeted.get()?.unsaved?;
        Some(view::daemon_warnings::unsaved(saved, self.has_autosave(), &Zoned::now()))
    }

    /// As [`Client::hello`], without a warning about versions.
    pub async fn hello_unchecked(&self) -> Result<Hello, Failure> {
        // The warnings are printed with the first greeting only.
        let _ = self.greeted.set(DaemonWarnings::default());
        self.hello().await
    }

    /// Lets the daemon hand over to another program, or only finds out whether it could.
    pub async fn upgrade(&self, program: PathBuf, check: bool) -> Result<Successor, Failure> {
        Ok(self.work("update", &Scope::All, self.line().rpc.upgrade(within(WORKING), program, check)).await??)
    }

    /// What came of the last upgrade, when that is known.
    pub async fn upgraded(&self) -> Result<Upgraded, Failure> {
        self.line().rpc.upgraded(within(WORKING)).await.map_err(|error| Failure::from_rpc("update", &error))
    }

    async fn greet(&self) -> Result<(), Failure> {
        if self.greeted.get().is_some() { Ok(()) } else { self.hello().await.map(drop) }
    }

    fn no_answer(&self, error: &RpcError) -> Failure {
        if !matches!(error, RpcError::DeadlineExceeded) {
            return Failure::from_rpc("hello", error);
        }
        if let Some(suspended) = suspended::find(&self.home, self.peer()) {
            return Failure::new(suspended.sentence()).hint(suspended.hint());
        }
        let log = self.home.daemon_log();
        let (who, kill) = match self.peer() {
            Some(pid) => (format!("the daemon (pid {pid})"), format!("kill -9 {pid}")),
            None => ("the daemon".to_owned(), format!("kill -9 $(cat {})", self.home.pid_file().display())),
        };
        Failure::new(format!("{who} takes calls but did not answer in {} s", GREETING.as_secs())).hint(format!(
            "it may be very busy: try again; {} may say why; if it stays so, `{kill}` ends it, and \
             another goes on in its place while the apps run",
            log.display()
        ))
    }

    /// All processes, by id.
    pub async fn list(&self) -> Result<Vec<ProcessInfo>, Failure> {
        self.read("list", async |rpc| rpc.list(within(READING)).await).await
    }

    /// Everything about the processes named.
    pub async fn describe(&self, target: Vec<Selector>) -> Result<Vec<Description>, Failure> {
        let ask = async |target: &Vec<Selector>| {
            self.read("describe", async |rpc| rpc.describe(within(READING), target.clone()).await).await
        };
        match ask(&target).await? {
            Err(Refusal::NoMatch { selector, similar }) => match with_path(&target, &selector) {
                Some(again) => Ok(account_env::added(ask(&again).await??.into())),
                None => Err(Refusal::NoMatch { selector, similar }.into()),
            },
            answer => Ok(account_env::added(answer?.into())),
        }
    }

    /// Everything about all processes; an empty list is no refusal here.
    pub async fn describe_all(&self) -> Result<Vec<Description>, Failure> {
        let all = async |rpc: DaemonClient| rpc.describe(within(READING), vec![Selector::All]).await;
        match self.read("describe", all).await? {
            Err(Refusal::Empty) => Ok(Vec::new()),
            answer => Ok(account_env::added(answer?.into())),
        }
    }

    /// Questions that change nothing go out together with the greeting: one round trip.
    async fn read<T>(
        &self,
        verb: &str,
        question: impl AsyncFn(DaemonClient) -> Result<T, RpcError>,
    ) -> Result<T, Failure> {
        let line = self.line();
        // A daemon that does not greet is waited for no longer.
        let (greeting, asking) = (self.greet(), async { Ok(question(line.rpc.clone()).await) });
        let ((), answer) = tokio::try_join!(greeting, asking)?;
        let answer = match answer {
            Err(error) if is_cut(&error) => {
                self.call_again(&line).await?;
                question(self.line().rpc).await
            }
            answer => answer,
        };
        answer.map_err(|error| Failure::from_rpc(verb, &error))
    }

    /// Does something to the processes named, and waits until it is done. A word that names no process but is a file
    /// here is taken as the path of a script.
    pub async fn act(&self, action: Action, target: Vec<Selector>) -> Result<Report, Failure> {
        let verb = action.verb();
        let scope = Scope::Named(target.clone());
        let ask = async |target: Vec<Selector>| {
            self.work(verb, &scope, self.line().rpc.act(within(WORKING), action.clone(), target)).await
        };
        match ask(target.clone()).await? {
            Err(Refusal::NoMatch { selector, similar }) => match with_path(&target, &selector) {
                Some(again) => Ok(ask(again).await??),
                None => Err(Refusal::NoMatch { selector, similar }.into()),
            },
            answer => Ok(answer?),
        }
    }

    /// Brings apps up, and waits until each process is ready or failed.
    pub async fn launch(&self, apps: Vec<AppSpec>, how: Launch) -> Result<Report, Failure> {
        let scope = Scope::of_apps(&apps);
        Ok(self.work("start", &scope, self.line().rpc.launch(within(WORKING), apps, how)).await??)
    }

    /// Writes the list to disk.
    pub async fn save(&self, force: bool) -> Result<Saved, Failure> {
        Ok(self.work("save", &Scope::All, self.line().rpc.save(within(WORKING), force)).await??)
    }

    /// Starts what was saved.
    pub async fn resurrect(&self) -> Result<Report, Failure> {
        Ok(self.work("resurrect", &Scope::All, self.line().rpc.resurrect(within(WORKING))).await??)
    }

    /// Stops every app and ends the daemon.
    pub async fn shut_down(&self) -> Result<Report, Failure> {
        self.work("kill", &Scope::All, self.line().rpc.shut_down(within(WORKING))).await
    }

    /// The failure when the daemon died during an operation. Its successor may continue the operation, but the answer is lost.
    async fn cut_off(&self, verb: &str, error: &RpcError) -> Failure {
        let Ok(Connection::Open(stream)) = connect(&self.home).await else { return Failure::from_rpc(verb, error) };
        match Line::over(stream, 0).rpc.hello(within(GREETING)).await {
            Ok(hello) if hello.generation > 1 => Failure::new(format!(
                "the daemon died, or was updated, while it was at `{verb}`; another has taken over and goes on with it"
            ))
            .hint("the apps run on; `pmr explain` of the app tells how far it is, `pmr history` what it came to"),
            Ok(_) | Err(_) => Failure::from_rpc(verb, error),
        }
    }

    /// Waits for the end of an operation and shows its progress. Ctrl-C ends the waiting, not the operation.
    async fn work<T>(
        &self,
        verb: &str,
        scope: &Scope,
        operation: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, Failure> {
        let events = progress::subscribe(&self.home, self.ui).await;
        match &events {
            // When the daemon answers, it has accepted the subscription, which came before the request.
            Some(_) => self.hello().await.map(drop)?,
            None => self.greet().await?,
        }
        tokio::select! {
            done = progress::shown(events, self.ui, scope, operation) => {
                match done {
                    Err(error) if is_cut(&error) => Err(self.cut_off(verb, &error).await),
                    done => done.map_err(|error| Failure::from_rpc(verb, &error)),
                }
            }
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted(verb)),
            never = suspended::warn_once(&self.home, self.peer(), self.ui) => match never {},
        }
    }
}

/// The connection ended, and with it, most likely, the daemon.
fn is_cut(error: &RpcError) -> bool {
    matches!(error, RpcError::Shutdown | RpcError::Send(_) | RpcError::Channel(_))
}

/// The selectors with the one that matched nothing made an absolute path, if it is the name of a file here. Symbolic
/// links stay: an app is known by the path it was started by.
fn with_path(target: &[Selector], unmatched: &str) -> Option<Vec<Selector>> {
    let path = std::path::absolute(unmatched).ok().filter(|path| path.is_file())?;
    let path = without_dots(&path).to_str()?.to_owned();
    if path == unmatched {
        return None;
    }
    let named = |selector: &Selector| match selector {
        Selector::Word(word) if word == unmatched => Selector::Word(path.clone()),
        other => other.clone(),
    };
    Some(target.iter().map(named).collect())
}

/// An absolute path with each `..` taken together with what stands before it.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            _ => plain.push(part),
        }
    }
    plain
}

fn within(limit: Duration) -> context::Context {
    let mut context = context::current();
    context.deadline = Instant::now() + limit;
    context
}

fn mismatch(hello: &Hello) -> String {
    format!(
        "the daemon (pid {}) is version {}, this command is version {VERSION}. The command is carried out all the same. \
         `pmr update` lets the daemon go over to this version; the apps run on",
        hello.pid, hello.version
    )
}

#[cfg(test)]
mod tests;
