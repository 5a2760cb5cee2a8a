//! The cluster with real Node workers: unmodified apps, spawned with nothing but an IPC descriptor and the preload.
//! `PMR_TEST_NODE` names another Node than the one in PATH.

#[path = "../deadline/mod.rs"]
mod deadline;
mod dying;
mod leaving;
mod listening;

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use pmr::cluster::{Cluster, ClusterOptions, Notice, PRELOAD, Persistence, WorkerProtocol};
use pmr::keeper::{Ledger, Records, SharedMemory, Word};
use pmr::os::net::fdpass;
use pmr::protocol::Run;
use pmr::spec::{Balance, QueueRule};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A step that takes longer than this has hung.
const TIME_LIMIT: Duration = Duration::from_secs(120);

fn play<F: Future<Output = ()>>(scenario: F) {
    let _deadline = deadline::Deadline::new(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let over = async {
        while !deadline::is_over() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let all = async {
        tokio::select! {
            () = scenario => {}
            () = over => panic!("the test's time is over"),
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, all);
}

fn node() -> String {
    std::env::var("PMR_TEST_NODE").unwrap_or_else(|_| "node".to_owned())
}

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/cluster_node/apps", name].iter().collect()
}

const APP: u32 = 1;

/// The ledger and shared memory of the God of this generation.
fn persistence(generation: u64) -> Persistence {
    let shared_memory = Rc::new(SharedMemory::new().unwrap());
    shared_memory.set(Word::Generation, generation);
    Persistence {
        ledger: Ledger::start(Rc::clone(&shared_memory), &Records::new()).unwrap(),
        shared_memory,
        tracer: pmr::os::tracer::Tracer::direct(),
    }
}

/// An app, its cluster and its workers, which are killed at the end.
struct App {
    cluster: Cluster,
    persistence: Persistence,
    notices: UnboundedReceiver<Notice>,
    script: PathBuf,
    args: Vec<String>,
    dir: tempfile::TempDir,
    workers: HashMap<Run, Child>,
    last: Cell<u64>,
}

impl App {
    fn new(name: &str, args: &[&str]) -> App {
        App::with(Balance::RoundRobin, name, args)
    }

    fn with(balance: Balance, name: &str, args: &[&str]) -> App {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("preload.cjs"), PRELOAD).unwrap();
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(1);
        let cluster =
            Cluster::new(ClusterOptions { balance, ..ClusterOptions::default() }, APP, persistence.clone(), sender);
        let args = args.iter().map(ToString::to_string).collect();
        let (script, workers) = (script(name), HashMap::new());
        App { cluster, persistence, notices, script, args, dir, workers, last: Cell::new(0) }
    }

    /// Starts a worker.
    fn spawn(&mut self) -> Run {
        let run = Run(self.last.get() + 1);
        self.last.set(run.0);
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        // The shell moves the channel to descriptor 3.
        let child = Command::new("sh")
            .args(["-c", "exec 3<&0 0</dev/null; exec \"$0\" \"$@\""])
            .arg(node())
            .arg("--require")
            .arg(self.dir.path().join("preload.cjs"))
            .arg(&self.script)
            .args(&self.args)
            .env("NODE_CHANNEL_FD", "3")
            .env("NODE_UNIQUE_ID", run.0.to_string())
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        self.cluster.join(run, 0, ours, WorkerProtocol::Node);
        self.workers.insert(run, child);
        run
    }

    /// Starts workers and waits until each listens.
    async fn spawn_listening(&mut self, count: usize) -> Vec<Run> {
        let runs: Vec<Run> = (0..count).map(|_| self.spawn()).collect();
        let mut missing = runs.clone();
        while !missing.is_empty() {
            if let Notice::Listening { run, .. } = self.notice().await {
                missing.retain(|r| *r != run);
            }
        }
        runs
    }

    async fn notice(&mut self) -> Notice {
        tokio::time::timeout(TIME_LIMIT, self.notices.recv())
            .await
            .expect("no notice came")
            .expect("the cluster is here")
    }

    /// The next message of this worker's app.
    async fn message(&mut self, from: Run) -> Value {
        loop {
            if let Notice::Message { run, data } = self.notice().await
                && run == from
            {
                return data;
            }
        }
    }

    async fn wait_for(&mut self, wanted: Notice) {
        while self.notice().await != wanted {}
    }

    /// Kills a worker with SIGKILL and reports its end to the cluster.
    fn kill(&mut self, run: Run) {
        let mut child = self.workers.remove(&run).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.cluster.gone(run);
    }

    /// Waits until each of these workers has got a connection.
    async fn all_are_served(&self, runs: &[Run]) {
        while runs.iter().any(|run| self.cluster.connections(*run) == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Replaces all workers as a reload does: the successors start first, then the old ones are drained.
    async fn replace(&mut self, old: &mut Vec<Run>, grace: Duration) {
        let new = self.spawn_listening(old.len()).await;
        for run in std::mem::replace(old, new) {
            self.cluster.drain(run, grace);
            self.wait_for(Notice::Drained { run }).await;
            self.kill(run);
        }
    }

    /// The address of the n-th listener.
    fn at(&self, listener: usize) -> SocketAddr {
        let port = self.cluster.listeners()[listener].address.rsplit(':').next().unwrap().parse().unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Sends a request on a new connection. Returns the body of the answer.
    async fn get(&self) -> String {
        get(self.at(0), "/").await
    }
}

impl Drop for App {
    fn drop(&mut self) {
        for child in self.workers.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn get(at: SocketAddr, path: &str) -> String {
    let request = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    };
    tokio::time::timeout(TIME_LIMIT, request).await.expect("the request hung")
}

/// Runs one of the test's clients to its end. It prints JSON.
async fn client(name: &str, args: &[&str]) -> Value {
    let mut command = Command::new(node());
    command.arg(script(name)).args(args).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}: {output:?}"))
}

/// Clients that send requests without a pause.
struct Load(Child);

impl Load {
    /// `kind`: `keep`, `new` or `h2`.
    fn on(at: SocketAddr, kind: &str) -> Load {
        let mut command = Command::new(node());
        command.arg(script("load.cjs")).args([kind, &at.port().to_string()]);
        Load(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Lets every client finish its request. Returns the counts of `load.cjs`.
    async fn finish(mut self) -> Value {
        drop(self.0.stdin.take());
        let output = tokio::task::spawn_blocking(move || self.0.wait_with_output().unwrap()).await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
