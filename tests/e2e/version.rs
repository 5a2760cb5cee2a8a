//! A daemon of another version: commands work and warn.

use std::path::PathBuf;
use std::sync::mpsc;

use futures_util::StreamExt;
use pmr::protocol::wire::{JsonCodec, MAX_FRAME};
use pmr::protocol::{
    Action, Daemon, Described, Hello, Launch, ProcessInfo, Refusal, Report, Saved, Successor, Upgraded,
};
use pmr::spec::AppSpec;
use pmr::spec::target::Selector;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel};
use tokio::net::UnixListener;
use tokio_util::codec::LengthDelimitedCodec;

use crate::support::Home;

/// A daemon of a later version, without processes.
#[derive(Clone)]
struct Later;

impl Daemon for Later {
    async fn hello(self, _: Context) -> Hello {
        Hello {
            version: "99.1.0".into(),
            pid: 1,
            god: 2,
            generation: 1,
            started_at: 0,
            home: "/h".into(),
            warnings: Default::default(),
        }
    }
    async fn launch(self, _: Context, _: Vec<AppSpec>, _: Launch) -> Result<Report, Refusal> {
        Err(Refusal::ShuttingDown)
    }
    async fn act(self, _: Context, _: Action, _: Vec<Selector>) -> Result<Report, Refusal> {
        Err(Refusal::Empty)
    }
    async fn list(self, _: Context) -> Vec<ProcessInfo> {
        vec![]
    }
    async fn describe(self, _: Context, _: Vec<Selector>) -> Result<Described, Refusal> {
        Ok(vec![].into())
    }
    async fn save(self, _: Context, _: bool) -> Result<Saved, Refusal> {
        Err(Refusal::NothingToSave)
    }
    async fn resurrect(self, _: Context) -> Result<Report, Refusal> {
        Ok(Report::default())
    }
    async fn upgrade(self, _: Context, _: PathBuf, _: bool) -> Result<Successor, Refusal> {
        unreachable!("the commands of this test send no upgrade")
    }
    async fn upgraded(self, _: Context) -> Upgraded {
        unreachable!("see above")
    }
    async fn shut_down(self, _: Context) -> Report {
        Report::default()
    }
}

/// Serves on the home's socket until the sender is dropped.
fn serve(path: std::path::PathBuf) -> mpsc::Sender<()> {
    let (alive, ended) = mpsc::channel::<()>();
    let (ready, listening) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::bind(path).unwrap();
            ready.send(()).unwrap();
            let serving = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
                    let transport = tarpc::serde_transport::new(framed, JsonCodec::default());
                    let answers = BaseChannel::with_defaults(transport).execute(Later.serve());
                    tokio::spawn(answers.for_each(|answer| async { drop(tokio::spawn(answer)) }));
                }
            });
            let _ = tokio::task::spawn_blocking(move || ended.recv()).await;
            serving.abort();
        });
    });
    listening.recv().unwrap();
    alive
}

#[test]
fn a_command_works_with_a_daemon_of_another_version_and_warns() {
    let home = Home::new();
    std::fs::create_dir(home.root()).unwrap();
    let alive = serve(home.root().join("rpc.sock"));
    let list = home.ok("list");
    for text in ["99.1.0", env!("CARGO_PKG_VERSION")] {
        assert!(list.err.contains(text), "{}", list.transcript());
    }
    let jlist = home.ok("jlist");
    assert_eq!(jlist.out, "[]", "the notice is not in the way of JSON");
    home.run("stop all").refuses("there are no processes").complains("99.1.0");
    std::fs::remove_file(home.root().join("rpc.sock")).unwrap();
    drop(alive);
}
