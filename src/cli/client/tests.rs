//! The client against a small daemon of the tests, on a socket in a scratch home.

use std::rc::Rc;
use std::sync::{PoisonError, RwLock};

use futures_util::StreamExt;
use tarpc::server::{BaseChannel, Channel};
use tokio::net::UnixListener;
use tokio::task::{LocalSet, spawn_local};

use super::super::failure::Kind;
use super::super::view::sample;
use super::*;
use crate::protocol::{Daemon, Described, ReportLine, Verdict};

/// Answers like a daemon with one app, `api` (3), whose script is `/srv/api/app.js`.
#[derive(Clone)]
struct Fake {
    version: &'static str,
    /// Sends SIGINT to this process, as Ctrl-C does, instead of answering.
    interrupts: bool,
}

impl Daemon for Fake {
    async fn hello(self, _: context::Context) -> Hello {
        Hello {
            version: self.version.into(),
            pid: 1,
            god: 2,
            generation: 1,
            started_at: 0,
            home: "/h".into(),
            warnings: DaemonWarnings::default(),
        }
    }
    async fn launch(self, _: context::Context, apps: Vec<AppSpec>, _: Launch) -> Result<Report, Refusal> {
        Err(Refusal::AlreadyRunning { name: apps[0].name.clone(), id: 3 })
    }
    async fn act(self, _: context::Context, action: Action, target: Vec<Selector>) -> Result<Report, Refusal> {
        if self.interrupts {
            // The client waits by now, so its handler is installed.
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).unwrap();
            std::future::pending::<()>().await;
        }
        let first = target[0].text();
        if first != "api" && first != manifest() {
            return Err(Refusal::NoMatch { selector: first, similar: vec!["api".into()] });
        }
        let line = ReportLine { id: 3, name: first, verb: action.verb().into(), verdict: Verdict::Done };
        Ok(Report { lines: vec![line], notes: vec![] })
    }
    async fn list(self, _: context::Context) -> Vec<ProcessInfo> {
        vec![sample::info()]
    }
    async fn describe(self, _: context::Context, target: Vec<Selector>) -> Result<Described, Refusal> {
        if target == [Selector::All] { Err(Refusal::Empty) } else { Ok(vec![sample::description()].into()) }
    }
    async fn save(self, _: context::Context, _: bool) -> Result<Saved, Refusal> {
        Err(Refusal::NothingToSave)
    }
    async fn resurrect(self, _: context::Context) -> Result<Report, Refusal> {
        Ok(Report::default())
    }
    async fn upgrade(self, _: context::Context, _: PathBuf, _: bool) -> Result<Successor, Refusal> {
        Err(Refusal::ShuttingDown)
    }
    async fn upgraded(self, _: context::Context) -> Upgraded {
        Upgraded::NotAsked
    }
    async fn shut_down(self, _: context::Context) -> Report {
        Report::default()
    }
}

static SIGINT_LOCK: RwLock<()> = RwLock::new(());

/// Runs `scenario` with a home in which `fake` answers. Without a fake, connections are accepted and not answered.
fn with<F: Future<Output = ()>>(fake: Option<Fake>, scenario: impl FnOnce(Home) -> F) {
    // SIGINT reaches all clients in this process.
    let interrupts = fake.as_ref().is_some_and(|fake| fake.interrupts);
    let _alone = interrupts.then(|| SIGINT_LOCK.write().unwrap_or_else(PoisonError::into_inner));
    let _undisturbed = (!interrupts).then(|| SIGINT_LOCK.read().unwrap_or_else(PoisonError::into_inner));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let home = Home::new(scratch.path().into());
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = Rc::new(UnixListener::bind(home.rpc_sock()).unwrap());
        let server = spawn_local(serve(Rc::clone(&listener), fake));
        scenario(home).await;
        server.abort();
    }));
}

async fn serve(listener: Rc<UnixListener>, fake: Option<Fake>) {
    let mut unanswered = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let Some(fake) = fake.clone() else {
            unanswered.push(stream);
            continue;
        };
        let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
        let channel = BaseChannel::with_defaults(tarpc::serde_transport::new(framed, JsonCodec::default()));
        spawn_local(channel.execute(fake.serve()).for_each(|answer| async {
            spawn_local(answer);
        }));
    }
}

fn manifest() -> String {
    std::env::current_dir().unwrap().join("Cargo.toml").to_str().unwrap().to_owned()
}

fn healthy() -> Option<Fake> {
    Some(Fake { version: VERSION, interrupts: false })
}

fn ui() -> Ui {
    Ui::new(true, true)
}

#[test]
fn a_list_and_hello_take_one_round_trip() {
    with(healthy(), async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        assert_eq!(client.list().await.unwrap(), [sample::info()]);
        assert!(client.warnings.get().is_some());
        assert_eq!(client.peer(), Some(i32::try_from(std::process::id()).unwrap()));
        assert_eq!(client.describe_all().await.unwrap(), []);
        let described = client.describe(vec![Selector::Word("api".into())]).await.unwrap();
        assert_eq!(described, [sample::description()]);
    });
}

#[test]
fn refusals_are_shown_with_their_sentence_and_hint() {
    with(healthy(), async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        let failure = client.act(Action::Stop, vec![Selector::Word("ap".into())]).await.unwrap_err();
        assert_eq!(failure.message, "no process or namespace matches `ap`");
        assert_eq!(failure.hint.as_deref(), Some("did you mean api?"));
        let failure = client.launch(vec![sample::spec()], Launch::New).await.unwrap_err();
        assert_eq!(failure.message, "the app `api` is running already (id 3)");
        assert!(client.save(false).await.unwrap_err().hint.unwrap().contains("--force"));
    });
}

#[test]
fn a_selector_that_names_a_file_is_tried_as_a_script() {
    with(healthy(), async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        let report = client.act(Action::Stop, vec![Selector::Word("src/../Cargo.toml".into())]).await.unwrap();
        assert_eq!(report.lines[0].name, manifest());
    });
}

#[test]
fn a_daemon_of_another_version_causes_a_warning_and_is_used() {
    let old = Some(Fake { version: "0.0.1", interrupts: false });
    with(old, async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        let hello = client.hello().await.unwrap();
        let notice = mismatch(&hello);
        assert!(notice.contains("0.0.1") && notice.contains(VERSION) && notice.contains("pmr update"), "{notice}");
        assert_eq!(client.list().await.unwrap().len(), 1);
    });
}

#[test]
fn a_daemon_that_does_not_answer_is_named_by_its_pid() {
    with(None, async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        let failure = client.act(Action::Stop, vec![Selector::All]).await.unwrap_err();
        // A read request waits no longer, else its message would differ.
        let read_failure = client.list().await.unwrap_err();
        assert_eq!(read_failure.message, failure.message);
        let pid = std::process::id();
        assert_eq!(failure.message, format!("the daemon (pid {pid}) accepts connections but did not answer in 10 s"));
        assert!(failure.hint.unwrap().contains(&format!("kill -9 {pid}")));
    });
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_operation() {
    with(Some(Fake { version: VERSION, interrupts: true }), async |home| {
        let client = Client::connect(&home, ui()).await.unwrap();
        let failure = client.act(Action::Stop, vec![Selector::All]).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Interrupted);
        assert!(failure.message.contains("continues the `stop`"), "{}", failure.message);
    });
}

#[test]
fn a_daemon_that_closes_the_connection_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let home = Home::new(scratch.path().into());
    runtime.block_on(async {
        let listener = UnixListener::bind(home.rpc_sock()).unwrap();
        let client = Client::connect(&home, ui()).await.unwrap();
        let hang_up = async {
            loop {
                drop(listener.accept().await.unwrap());
            }
        };
        let failure = tokio::select! {
            answer = client.list() => answer.unwrap_err(),
            () = hang_up => unreachable!("it goes on for ever"),
        };
        assert!(failure.message.starts_with("the daemon closed the connection during `"), "{}", failure.message);
    });
}

#[test]
fn the_error_without_a_daemon_names_the_home() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let home = Home::new(scratch.path().into());
    runtime.block_on(async {
        assert!(Client::find(&home, ui()).await.unwrap().is_none());
        let failure = Client::connect(&home, ui()).await.err().unwrap();
        assert_eq!(failure.kind, Kind::NoDaemon);
        assert_eq!(failure.message, format!("no daemon is running for {}", scratch.path().display()));
        // A socket without a listener is no daemon either.
        drop(UnixListener::bind(home.rpc_sock()).unwrap());
        assert!(Client::find(&home, ui()).await.unwrap().is_none());
        let deep = Home::new(scratch.path().join("x".repeat(120)));
        let failure = Client::find(&deep, ui()).await.err().unwrap();
        assert!(failure.hint.unwrap().contains("shorter"));
    });
}
