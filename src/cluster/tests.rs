//! The cluster against workers that the test plays, line by line.

mod backpressure;
mod dealing;
mod dying;
mod leaving;
mod outliving;
mod own_channel;
mod surviving;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::keeper::{Ledger, Place, Records, SharedMemory, Word, ledger};
use crate::os::net::fdpass;
use crate::os::tracer::Tracer;
use crate::spec::{Balance, QueueRule};

/// A step that takes longer than this has hung.
const TIME_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn play<F: Future<Output = ()>>(scenario: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async { tokio::time::timeout(TIME_LIMIT * 3, scenario).await.expect("the scenario hung") };
    tokio::task::LocalSet::new().block_on(&runtime, all);
}

/// A cluster and its notices.
struct Stage {
    cluster: Cluster,
    notices: UnboundedReceiver<Notice>,
    persistence: Persistence,
    balance: Balance,
    queue: QueueRule,
}

const APP: u32 = 7;

/// What a killed God leaves.
struct Remains {
    records: Records,
    files: HashMap<String, OwnedFd>,
    connections: Vec<(OwnedFd, Place)>,
    rest: Vec<OwnedFd>,
    generation: u64,
    balance: Balance,
    queue: QueueRule,
}

impl Remains {
    /// Changes the cluster's record, as if God had died at another moment.
    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let text = self.records.get_mut(&record_key(APP)).unwrap();
        let mut record = serde_json::from_str(text).unwrap();
        change(&mut record);
        *text = record.to_string();
    }

    /// Starts the next God.
    fn recover(mut self) -> Stage {
        let persistence = persistence(self.generation + 1, &self.records);
        let (sender, notices) = unbounded_channel();
        let recovered = RecoveredCluster {
            records: &self.records,
            files: &mut self.files,
            connections: &mut self.connections,
            rest: &mut self.rest,
        };
        let options = ClusterOptions { balance: self.balance, queue: self.queue, ..ClusterOptions::default() };
        let cluster = Cluster::recover(options, APP, persistence.clone(), sender, recovered).unwrap();
        assert!(self.files.is_empty() && self.connections.is_empty() && self.rest.is_empty(), "all is taken over");
        Stage { cluster, notices, persistence, balance: self.balance, queue: self.queue }
    }
}

pub(crate) fn persistence(generation: u64, records: &Records) -> Persistence {
    let shared_memory = Rc::new(SharedMemory::new().unwrap());
    shared_memory.set(Word::Generation, generation);
    // The copies of kept files have other numbers, so they are kept anew.
    let records = records.iter().filter(|(key, _)| !key.starts_with("fd/")).map(|(k, v)| (k.clone(), v.clone()));
    Persistence {
        ledger: Ledger::start(Rc::clone(&shared_memory), &records.collect()).unwrap(),
        shared_memory,
        tracer: Tracer::direct(),
    }
}

/// A copy of an open file, by its descriptor number.
pub(crate) fn copy(number: i32) -> OwnedFd {
    fdpass::inherited(u16::try_from(number).unwrap()).unwrap()
}

impl Stage {
    fn new() -> Stage {
        Stage::with(Balance::RoundRobin)
    }

    fn with(balance: Balance) -> Stage {
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(1, &Records::new());
        Stage {
            cluster: Cluster::new(
                ClusterOptions { balance, ..ClusterOptions::default() },
                APP,
                persistence.clone(),
                sender,
            ),
            notices,
            persistence,
            balance,
            queue: QueueRule::default(),
        }
    }

    fn records(&self) -> Records {
        ledger::read(self.persistence.ledger.file().unwrap()).unwrap()
    }

    /// Kills God at this moment. Its open files stay open as copies.
    async fn die(self) -> Remains {
        let records = self.records();
        let files = ledger::kept(&records).map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        let shared_memory = &self.persistence.shared_memory;
        let placed = numbers.into_iter().filter_map(|number| Some((number, shared_memory.place(number)?)));
        let connections = placed.map(|(number, place)| (copy(number), place)).collect();
        let generation = shared_memory.get(Word::Generation);
        let (balance, queue) = (self.balance, self.queue);
        let remains = Remains { records, files, connections, rest: Vec::new(), generation, balance, queue };
        drop(self);
        // The tasks of the dead God end.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        remains
    }

    async fn restart_god(self) -> Stage {
        self.die().await.recover()
    }

    fn worker(&self, run: u64) -> Fake {
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        self.cluster.join(Run(run), u32::try_from(run).unwrap(), ours, WorkerProtocol::Node);
        Fake::new(theirs)
    }

    /// A worker that listens on the port that all workers share.
    async fn listening(&self, run: u64) -> Fake {
        let mut worker = self.worker(run);
        worker.listen(0).await;
        worker
    }

    async fn notice(&mut self) -> Notice {
        let notice = tokio::time::timeout(TIME_LIMIT, self.notices.recv()).await.expect("no notice came").unwrap();
        notice.sender().into_iter().for_each(|run| self.cluster.notice_handled(run));
        notice
    }

    /// True if there is no further notice after all tasks have run.
    async fn has_no_notice(&mut self) -> bool {
        settle().await;
        self.notices.try_recv().is_err()
    }
}

/// Lets the cluster's tasks run until they have nothing to do. In many short sleeps, since on a busy machine a single
/// long one could pass without any task having run.
async fn settle() {
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIME_LIMIT, all).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// Waits until God has read what the worker wrote.
async fn wait_until_read(worker: &Fake) {
    while fdpass::unread(worker.socket.get_ref()).unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The worker's side of a channel.
struct Fake {
    socket: AsyncFd<OwnedFd>,
    text: RefCell<Vec<u8>>,
    files: RefCell<VecDeque<OwnedFd>>,
    key: String,
    port: u16,
    /// The number of its last request.
    seq: Cell<u64>,
}

impl Fake {
    fn new(socket: OwnedFd) -> Fake {
        let socket = fdpass::watch(socket).unwrap();
        Fake {
            socket,
            text: RefCell::default(),
            files: RefCell::default(),
            key: String::new(),
            port: 0,
            seq: Cell::new(0),
        }
    }

    fn send(&self, line: &Value) {
        self.write(format!("{line}\n").as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        assert_eq!(fdpass::send(self.socket.get_ref(), bytes, None).unwrap(), bytes.len());
    }

    /// The next line; `None` at the end of the channel.
    async fn next(&self) -> Option<Value> {
        loop {
            if let Some(line) = self.take_line() {
                return Some(line);
            }
            let mut ready =
                tokio::time::timeout(TIME_LIMIT, self.socket.readable()).await.expect("no line came").unwrap();
            let mut buffer = vec![0; 65536];
            match ready.try_io(|socket| fdpass::receive(socket.get_ref(), &mut buffer)) {
                Ok(Ok((0, _))) => return None,
                Ok(Ok((count, files))) => {
                    self.text.borrow_mut().extend_from_slice(&buffer[..count]);
                    self.files.borrow_mut().extend(files);
                }
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => {}
            }
        }
    }

    /// Reads once, without waiting.
    fn receive_now(&self) {
        let mut buffer = vec![0; 65536];
        if let Ok((count, files)) = fdpass::receive(self.socket.get_ref(), &mut buffer) {
            self.text.borrow_mut().extend_from_slice(&buffer[..count]);
            self.files.borrow_mut().extend(files);
        }
    }

    fn take_line(&self) -> Option<Value> {
        let mut text = self.text.borrow_mut();
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = text.drain(..=end).collect();
        Some(serde_json::from_slice(&line).unwrap())
    }

    fn has_nothing(&self) -> bool {
        let empty = fdpass::receive(self.socket.get_ref(), &mut [0; 1024]);
        self.text.borrow().is_empty() && empty.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn query(&self, more: Value) -> Value {
        self.request_listen(&more);
        self.next().await.unwrap()
    }

    /// Sends a request to listen.
    fn request_listen(&self, more: &Value) {
        self.seq.set(self.seq.get() + 1);
        let mut query = json!({"cmd": "NODE_CLUSTER", "act": "queryServer", "seq": self.seq.get(), "index": 0, "data": null,
            "address": "127.0.0.1", "port": 0, "addressType": 4, "backlog": false});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&query);
    }

    async fn listen(&mut self, index: u64) {
        let reply = self.query(json!({ "index": index })).await;
        assert_eq!((&reply["ack"], &reply["errno"]), (&json!(self.seq.get()), &Value::Null), "{reply}");
        self.key = reply["key"].as_str().unwrap().to_owned();
        self.port = reply["sockname"]["port"].as_u64().unwrap() as u16;
    }

    /// Waits for a connection. Returns its message number and socket.
    async fn connection(&self) -> (u64, OwnedFd) {
        let line = self.next().await.unwrap();
        assert_eq!((&line["cmd"], &line["msg"]["act"]), (&json!("NODE_HANDLE"), &json!("newconn")), "{line}");
        assert_eq!(line["msg"]["key"], self.key);
        let file = self.files.borrow_mut().pop_front().expect("a connection comes with its socket");
        (line["msg"]["seq"].as_u64().unwrap(), file)
    }

    /// Waits for the sync message of a new God and refuses it, as Node does.
    async fn refuse_sync(&self) {
        let line = self.next().await.unwrap();
        assert_eq!((&line["cmd"], &line["msg"]["key"]), (&json!("NODE_HANDLE"), &json!("")), "{line}");
        self.files.borrow_mut().pop_front().expect("Node wants something to close");
        self.answer(line["msg"]["seq"].as_u64().unwrap(), false);
    }

    fn answer(&self, seq: u64, accepted: bool) {
        self.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
        self.send(&json!({"cmd": "NODE_CLUSTER", "ack": seq, "accepted": accepted, "seq": 1}));
    }

    async fn accept(&self) -> OwnedFd {
        let (seq, socket) = self.connection().await;
        self.answer(seq, true);
        socket
    }

    fn close(&self) {
        self.send(&json!({"cmd": "NODE_CLUSTER", "act": "close", "key": self.key, "seq": 5}));
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at()).unwrap()
    }
}
