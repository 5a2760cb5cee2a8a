//! The client of the daemon that commands use: connection, deadlines, version, Ctrl-C.
//!
//! Operations belong to the daemon: a command that is interrupted or reaches its deadline only stops waiting.

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

/// Deadline of `hello`, which a healthy daemon answers at once unless the machine is very busy.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Time without an answer after which the client checks whether the daemon is stopped by a signal.
const SUSPENDED_CHECK: Duration = Duration::from_secs(2);
/// Deadline of requests that only read: a list may be long and the machine busy.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of operations, which take as long as the apps need: in practice none. (tarpc's limit is two years.)
const OPERATION_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// A client of the daemon. Only the first request shows whether the daemon answers.
pub struct Client {
    link: RefCell<Link>,
    /// The warnings in the daemon's answer to `hello`, once that has come.
    warnings: OnceCell<DaemonWarnings>,
    /// Whether to start a daemon if none runs.
    starts_daemon: bool,
    ui: Ui,
    home: Home,
}

/// One connection.
#[derive(Clone)]
struct Link {
    rpc: DaemonClient,
    peer: Option<i32>,
    /// Number of this connection in the client, from 1.
    number: u32,
}

impl Link {
    fn over(stream: UnixStream, number: u32) -> Link {
        let peer = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
        let transport = tarpc::serde_transport::new(framed, JsonCodec::default());
        let rpc = DaemonClient::new(tarpc::client::Config::default(), transport).spawn();
        Link { rpc, peer, number }
    }
}

impl Client {
    /// Connects to the daemon of this home, which must be running.
    pub async fn connect(home: &Home, ui: Ui) -> Result<Client, Failure> {
        Client::find(home, ui).await?.ok_or_else(|| Failure::no_daemon(home.root()))
    }

    /// Connects to the daemon of this home, if one runs.
    pub async fn find(home: &Home, ui: Ui) -> Result<Option<Client>, Failure> {
        Ok(match connect(home).await? {
            Connection::Open(stream) => Some(Client::over(stream, false, home, ui)),
            Connection::NoDaemon => None,
        })
    }

    /// Connects to the daemon of this home, and starts it first if none runs.
    pub async fn connect_or_start(home: &Home, ui: Ui) -> Result<Client, Failure> {
        let stream = match connect(home).await? {
            Connection::Open(stream) => stream,
            Connection::NoDaemon => start_daemon(home).await?,
        };
        Ok(Client::over(stream, true, home, ui))
    }

    fn over(stream: UnixStream, starts_daemon: bool, home: &Home, ui: Ui) -> Client {
        Client {
            link: RefCell::new(Link::over(stream, 1)),
            warnings: OnceCell::new(),
            starts_daemon,
            ui,
            home: home.clone(),
        }
    }

    /// The same client, which starts a daemon if this one ends before it has answered: a killed daemon accepts
    /// connections as long as its last thread lives.
    #[must_use]
    pub fn or_start(self) -> Client {
        Client { starts_daemon: true, ..self }
    }

    /// Pid of the daemon process at the other end, from the kernel (SO_PEERCRED).
    #[must_use]
    pub fn peer(&self) -> Option<i32> {
        self.link.borrow().peer
    }

    fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Connects again after the daemon died and its keeper started another. Only for requests that change nothing,
    /// which may be sent twice.
    async fn reconnect(&self, lost: &Link) -> Result<(), Failure> {
        if self.link.borrow().number != lost.number {
            return Ok(());
        }
        let stream = match connect(&self.home).await? {
            Connection::Open(stream) => stream,
            Connection::NoDaemon if self.starts_daemon => start_daemon(&self.home).await?,
            Connection::NoDaemon => return Err(Failure::no_daemon(self.home.root())),
        };
        *self.link.borrow_mut() = Link::over(stream, lost.number + 1);
        Ok(())
    }

    /// Sends `hello`. Warns once if versions differ, or if the daemon cannot write its state.
    pub async fn hello(&self) -> Result<Hello, Failure> {
        let link = self.link();
        let hello = match self.request_hello(&link).await {
            Err(error) if is_disconnect(&error) => {
                self.reconnect(&link).await?;
                self.request_hello(&self.link()).await
            }
            answer => answer,
        };
        let hello = hello.map_err(|error| self.no_answer(&error))?;
        if self.warnings.set(hello.warnings.clone()).is_ok() {
            if hello.version != VERSION {
                self.ui.warn(&mismatch(&hello));
            }
            if let Some(unwritten) = &hello.warnings.unwritten {
                self.ui.warn(&view::daemon_warnings::unwritten(unwritten, self.has_autosave(), &Zoned::now()));
            }
        }
        Ok(hello)
    }

    /// Sends `hello` and returns the answer. Does not wait for a daemon that is stopped by a signal.
    async fn request_hello(&self, link: &Link) -> Result<Hello, RpcError> {
        let mut answer = std::pin::pin!(link.rpc.hello(within(HELLO_DEADLINE)));
        loop {
            match tokio::time::timeout(SUSPENDED_CHECK, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if suspended::find(&self.home, link.peer).is_some() => return Err(RpcError::DeadlineExceeded),
                Err(_) => {}
            }
        }
    }

    /// True if the processes that run are started after a reboot, saved or not.
    fn has_autosave(&self) -> bool {
        Settings::read(&self.home).is_ok_and(|settings| settings.autosave)
    }

    /// The sentence about what a reboot would start, if the processes that run differ from the saved list.
    #[must_use]
    pub fn unsaved(&self) -> Option<String> {
        let saved = self.warnings.get()?.unsaved?;
        Some(view::daemon_warnings::unsaved(saved, self.has_autosave(), &Zoned::now()))
    }

    /// As [`Client::hello`], without a warning about versions.
    pub async fn hello_unchecked(&self) -> Result<Hello, Failure> {
        // The warnings are printed with the first answer only.
        let _ = self.warnings.set(DaemonWarnings::default());
        self.hello().await
    }

    /// Lets the daemon hand over to another program, or with `check` only checks whether it could.
    pub async fn upgrade(&self, program: PathBuf, check: bool) -> Result<Successor, Failure> {
        Ok(self
            .operate("update", &Scope::All, self.link().rpc.upgrade(within(OPERATION_DEADLINE), program, check))
            .await??)
    }

    /// Waits for the result of the last upgrade.
    pub async fn upgraded(&self) -> Result<Upgraded, Failure> {
        self.link().rpc.upgraded(within(OPERATION_DEADLINE)).await.map_err(|error| Failure::from_rpc("update", &error))
    }

    async fn ensure_hello(&self) -> Result<(), Failure> {
        if self.warnings.get().is_some() { Ok(()) } else { self.hello().await.map(drop) }
    }

    fn no_answer(&self, error: &RpcError) -> Failure {
        if !matches!(error, RpcError::DeadlineExceeded) {
            return Failure::from_rpc("hello", error);
        }
        if let Some(suspended) = suspended::find(&self.home, self.peer()) {
            return Failure::new(suspended.sentence()).hint(suspended.hint());
        }
        let log = self.home.daemon_log();
        let (daemon, kill) = match self.peer() {
            Some(pid) => (format!("the daemon (pid {pid})"), format!("kill -9 {pid}")),
            None => ("the daemon".to_owned(), format!("kill -9 $(cat {})", self.home.pid_file().display())),
        };
        Failure::new(format!("{daemon} accepts connections but did not answer in {} s", HELLO_DEADLINE.as_secs())).hint(
            format!(
                "it may be very busy: try again; {} may say why; if it does not recover, `{kill}` ends it, and \
             its keeper starts another while the apps run on",
                log.display()
            ),
        )
    }

    /// All processes, in order of id.
    pub async fn list(&self) -> Result<Vec<ProcessInfo>, Failure> {
        self.read("list", async |rpc| rpc.list(within(READ_DEADLINE)).await).await
    }

    /// All details of the processes that match `target`.
    pub async fn describe(&self, target: Vec<Selector>) -> Result<Vec<Description>, Failure> {
        let request = async |target: &Vec<Selector>| {
            self.read("describe", async |rpc| rpc.describe(within(READ_DEADLINE), target.clone()).await).await
        };
        match request(&target).await? {
            Err(Refusal::NoMatch { selector, similar }) => match with_path(&target, &selector) {
                Some(again) => Ok(account_env::add_accounts(request(&again).await??.into())),
                None => Err(Refusal::NoMatch { selector, similar }.into()),
            },
            answer => Ok(account_env::add_accounts(answer?.into())),
        }
    }

    /// All details of all processes. Without processes the result is empty and no refusal.
    pub async fn describe_all(&self) -> Result<Vec<Description>, Failure> {
        let all = async |rpc: DaemonClient| rpc.describe(within(READ_DEADLINE), vec![Selector::All]).await;
        match self.read("describe", all).await? {
            Err(Refusal::Empty) => Ok(Vec::new()),
            answer => Ok(account_env::add_accounts(answer?.into())),
        }
    }

    /// Sends a request that changes nothing, together with `hello`: one round trip.
    async fn read<T>(&self, verb: &str, send: impl AsyncFn(DaemonClient) -> Result<T, RpcError>) -> Result<T, Failure> {
        let link = self.link();
        // If the daemon does not answer `hello`, the request is not waited for.
        let (hello, sending) = (self.ensure_hello(), async { Ok(send(link.rpc.clone()).await) });
        let ((), answer) = tokio::try_join!(hello, sending)?;
        let answer = match answer {
            Err(error) if is_disconnect(&error) => {
                self.reconnect(&link).await?;
                send(self.link().rpc).await
            }
            answer => answer,
        };
        answer.map_err(|error| Failure::from_rpc(verb, &error))
    }

    /// Carries out an action on the processes that match, and waits until it is done. A selector that matches no
    /// process but names a file here is tried as the path of a script.
    pub async fn act(&self, action: Action, target: Vec<Selector>) -> Result<Report, Failure> {
        let verb = action.verb();
        let scope = Scope::Named(target.clone());
        let request = async |target: Vec<Selector>| {
            self.operate(verb, &scope, self.link().rpc.act(within(OPERATION_DEADLINE), action.clone(), target)).await
        };
        match request(target.clone()).await? {
            Err(Refusal::NoMatch { selector, similar }) => match with_path(&target, &selector) {
                Some(again) => Ok(request(again).await??),
                None => Err(Refusal::NoMatch { selector, similar }.into()),
            },
            answer => Ok(answer?),
        }
    }

    /// Starts apps, and waits until each process is ready or has failed.
    pub async fn launch(&self, apps: Vec<AppSpec>, how: Launch) -> Result<Report, Failure> {
        let scope = Scope::of_apps(&apps);
        Ok(self.operate("start", &scope, self.link().rpc.launch(within(OPERATION_DEADLINE), apps, how)).await??)
    }

    /// Saves the list of processes.
    pub async fn save(&self, force: bool) -> Result<Saved, Failure> {
        Ok(self.operate("save", &Scope::All, self.link().rpc.save(within(OPERATION_DEADLINE), force)).await??)
    }

    /// Starts the saved processes.
    pub async fn resurrect(&self) -> Result<Report, Failure> {
        Ok(self.operate("resurrect", &Scope::All, self.link().rpc.resurrect(within(OPERATION_DEADLINE))).await??)
    }

    /// Stops every app and ends the daemon.
    pub async fn shut_down(&self) -> Result<Report, Failure> {
        self.operate("kill", &Scope::All, self.link().rpc.shut_down(within(OPERATION_DEADLINE))).await
    }

    /// The failure for a daemon that died during an operation. The next daemon may continue the operation, but the
    /// answer is lost.
    async fn disconnected(&self, verb: &str, error: &RpcError) -> Failure {
        let Ok(Connection::Open(stream)) = connect(&self.home).await else { return Failure::from_rpc(verb, error) };
        match Link::over(stream, 0).rpc.hello(within(HELLO_DEADLINE)).await {
            Ok(hello) if hello.generation > 1 => Failure::new(format!(
                "the daemon died, or was updated, during the `{verb}`; the next daemon continues it"
            ))
            .hint("the apps run on; `pmr explain` shows its progress, `pmr history` its result"),
            Ok(_) | Err(_) => Failure::from_rpc(verb, error),
        }
    }

    /// Waits for the end of an operation and shows its progress. Ctrl-C ends the waiting, not the operation.
    async fn operate<T>(
        &self,
        verb: &str,
        scope: &Scope,
        operation: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, Failure> {
        let events = progress::subscribe(&self.home, self.ui).await;
        match &events {
            // An answer proves that the daemon has accepted the subscription, which came before the request.
            Some(_) => self.hello().await.map(drop)?,
            None => self.ensure_hello().await?,
        }
        tokio::select! {
            done = progress::shown(events, self.ui, scope, operation) => {
                match done {
                    Err(error) if is_disconnect(&error) => Err(self.disconnected(verb, &error).await),
                    done => done.map_err(|error| Failure::from_rpc(verb, &error)),
                }
            }
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted(verb)),
            never = suspended::warn_once(&self.home, self.peer(), self.ui) => match never {},
        }
    }
}

/// True if the connection ended: most likely the daemon died.
fn is_disconnect(error: &RpcError) -> bool {
    matches!(error, RpcError::Shutdown | RpcError::Send(_) | RpcError::Channel(_))
}

/// The selectors, in which the unmatched one is replaced by an absolute path if it names a file here. Symbolic links
/// stay, because an app is known by the path with which it was started.
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

/// Removes each `..` of an absolute path together with the component before it.
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
        "the daemon (pid {}) is version {}, this command is version {VERSION}. The command is carried out anyway. \
         `pmr update` replaces the daemon by this version; the apps run on",
        hello.pid, hello.version
    )
}

#[cfg(test)]
mod tests;
