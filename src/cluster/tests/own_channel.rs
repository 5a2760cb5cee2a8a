//! Workers on a channel of pmr's own, played packet by packet: credit, batches, leaving; and a God that dies again and
//! again at random moments while each client is served exactly once.

use super::surviving::{Random, interrupt_step};
use super::*;
use crate::os::net::packets;
use crate::protocol::channel::{FromDaemon, FromWorker, MOST, PACKET, Status, VERSION};

const GRACE: Duration = Duration::from_secs(100);

/// A worker, played by the test.
struct Worker {
    run: u64,
    socket: OwnedFd,
    /// The IPC channel, which it does not use.
    _ipc: OwnedFd,
    status: Status,
    /// Connections that it has received and not served yet.
    files: VecDeque<OwnedFd>,
    at: Option<SocketAddr>,
    drains: u32,
    /// The last packet that it sent.
    wrote: Vec<u8>,
    largest: usize,
    refuses: bool,
}

impl Worker {
    fn join(stage: &Stage, run: u64) -> Worker {
        let ((ipc, their_ipc), (own, socket)) = (fdpass::channel_pair().unwrap(), packets::pair().unwrap());
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        stage.cluster.join(Run(run), u32::try_from(run).unwrap(), ipc, WorkerProtocol::Channel(own));
        let status = Status { credit: 16, ..Status::default() };
        let (files, wrote) = (VecDeque::new(), Vec::new());
        Worker { run, socket, _ipc: their_ipc, status, files, at: None, drains: 0, wrote, largest: 0, refuses: false }
    }

    /// A worker that listens on the port that all workers share.
    async fn listening(stage: &Stage, run: u64, credit: u32) -> Worker {
        let mut worker = Worker::join(stage, run);
        worker.status.credit = credit;
        worker.send(&FromWorker::Hello { version: VERSION });
        worker.send(&FromWorker::Listen { index: 5, backlog: 0, address: "127.0.0.1:0" });
        worker.send_status();
        while worker.at.is_none() {
            worker.receive_all();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        settle().await;
        worker
    }

    fn send(&mut self, message: &FromWorker<'_>) {
        self.write(message.encode());
    }

    fn write(&mut self, packet: Vec<u8>) {
        packets::send(&self.socket, &packet, &[]).unwrap();
        self.wrote = packet;
    }

    fn send_status(&mut self) {
        let status = self.status;
        self.send(&FromWorker::Status(status));
    }

    /// Reads all packets that have come. Returns how many connections it accepted.
    fn receive_all(&mut self) -> usize {
        let mut arrived = 0;
        while let Some(count) = self.receive_one() {
            arrived += count;
        }
        arrived
    }

    /// Reads one packet. Returns how many connections it accepted; `None` if no packet has come.
    fn receive_one(&mut self) -> Option<usize> {
        let mut buffer = [0; PACKET];
        let (count, files) = match packets::receive(&self.socket, &mut buffer) {
            Ok((0, _)) | Err(_) => return None,
            Ok(got) => got,
        };
        match FromDaemon::decode(&buffer[..count]).unwrap() {
            FromDaemon::Welcome { version, .. } => assert_eq!(version, VERSION),
            FromDaemon::Unwelcome { .. } => panic!("it speaks the right version"),
            FromDaemon::Listening { index, errno, address } => {
                assert_eq!((index, errno), (5, 0));
                self.at = Some(address.parse().unwrap());
            }
            FromDaemon::Connections { index, numbers } => {
                assert_eq!((index, numbers.len()), (5, files.len()));
                assert!(numbers.is_sorted() && numbers[0] > self.status.taken && numbers.len() <= MOST);
                self.largest = self.largest.max(numbers.len());
                return Some(self.arrived(&numbers, files));
            }
            FromDaemon::Sync { token } => self.status.token = token,
            FromDaemon::Drain => self.drains += 1,
        }
        if self.at.is_some() {
            self.send_status();
        }
        Some(0)
    }

    fn arrived(&mut self, numbers: &[u64], mut files: Vec<OwnedFd>) -> usize {
        assert!(numbers.len() <= self.status.credit as usize, "never more than was granted");
        if self.refuses {
            let number = numbers[0];
            drop(files.remove(0));
            self.send(&FromWorker::Refuse { number });
        }
        self.status.taken = *numbers.last().unwrap();
        self.send_status();
        let count = files.len();
        self.files.extend(files);
        count
    }

    /// Answers each connection with one byte.
    fn serve(&mut self) {
        for file in self.files.drain(..) {
            std::io::Write::write_all(&mut TcpStream::from(file), b"x").unwrap();
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at.unwrap()).unwrap()
    }
}

/// Waits until the worker has this many connections, and asserts that it gets no more.
async fn receives_exactly(worker: &mut Worker, count: usize) {
    while worker.files.len() < count {
        worker.receive_all();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    worker.receive_all();
    assert_eq!(worker.files.len(), count);
}

#[test]
fn a_burst_of_connections_is_sent_in_few_packets_and_evenly() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let mut two = Worker::listening(&stage, 2, 16).await;
        assert_eq!(one.at, two.at);
        let _clients: Vec<_> = (0..20).map(|_| one.connect()).collect();
        receives_exactly(&mut one, 10).await;
        receives_exactly(&mut two, 10).await;
        assert!(one.largest > 1, "more than one in a packet");
        assert_eq!((stage.cluster.connections(Run(1)), stage.cluster.connections(Run(2))), (10, 10));
        assert_eq!(stage.cluster.listeners()[0].workers, 2);
    });
}

#[test]
fn a_worker_never_gets_more_connections_than_its_credit() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 0).await;
        let _clients: Vec<_> = (0..5).map(|_| one.connect()).collect();
        settle().await;
        assert_eq!(one.receive_all(), 0);
        one.status.credit = 2;
        one.send_status();
        let mut buffer = [0; PACKET];
        let mut files = Vec::new();
        until("as many as its credit have come, in one packet or in two", || {
            files.extend(packets::receive(&one.socket, &mut buffer).into_iter().flat_map(|(_, files)| files));
            files.len() >= 2
        })
        .await;
        assert_eq!(files.len(), 2);
        settle().await;
        assert!(one.receive_one().is_none(), "no more before it has reported these");
        drop(one);
        let mut two = Worker::listening(&stage, 2, 16).await;
        receives_exactly(&mut two, 5).await;
    });
}

#[test]
fn a_refused_connection_goes_to_another_worker() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        one.refuses = true;
        let client = one.connect();
        settle().await;
        assert_eq!(one.receive_all(), 0);
        let mut two = Worker::listening(&stage, 2, 16).await;
        receives_exactly(&mut two, 1).await;
        drop(client);
    });
}

#[test]
fn a_worker_drains_on_request_and_reports_when_it_is_done() {
    play(async {
        let mut stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let _client = one.connect();
        receives_exactly(&mut one, 1).await;
        stage.cluster.drain(Run(1), GRACE);
        let _late = one.connect();
        let mut stage = {
            while stage.notices.try_recv().is_ok() {}
            settle().await;
            assert_eq!((one.receive_all(), one.drains), (0, 1));
            stage.restart_god().await
        };
        stage.cluster.drain(Run(1), GRACE);
        while stage.notices.try_recv().is_ok() {}
        settle().await;
        one.receive_all();
        one.send(&FromWorker::Drained);
        assert_eq!(stage.notice().await, Notice::Drained { run: Run(1) });
        let mut two = Worker::listening(&stage, 2, 16).await;
        receives_exactly(&mut two, 1).await;
    });
}

#[test]
fn unreadable_packets_and_those_before_hello_are_ignored() {
    play(async {
        let mut stage = Stage::new();
        let mut strange = Worker::join(&stage, 9);
        strange.send(&FromWorker::Ready);
        strange.send(&FromWorker::Listen { index: 0, backlog: 0, address: "127.0.0.1:0" });
        for length in 1..100 {
            strange.write(vec![0xff; length]);
        }
        strange.write(vec![1; 4 * PACKET]);
        assert!(stage.has_no_notice().await && stage.cluster.listeners().is_empty());
        drop(strange);
        assert_eq!(stage.notice().await, Notice::Disconnected { run: Run(9) });
    });
}

#[test]
fn a_listener_is_opened_once_and_a_failure_is_an_errno() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = taken.local_addr().unwrap().to_string();
        let cases = [(5, &*elsewhere, libc::EEXIST), (6, &elsewhere, libc::EADDRINUSE), (7, "home", libc::EINVAL)];
        for (index, address, errno) in cases {
            one.send(&FromWorker::Listen { index, backlog: 0, address });
            settle().await;
            let mut buffer = [0; PACKET];
            let (count, _) = packets::receive(&one.socket, &mut buffer).unwrap();
            let answer = FromDaemon::Listening { index, errno: u16::try_from(errno).unwrap(), address: "" };
            assert_eq!(FromDaemon::decode(&buffer[..count]), Ok(answer));
        }
    });
}

async fn scenario(seed: u64) {
    let mut random = Random(seed);
    let mut stage = Stage::new();
    let mut workers = Vec::new();
    for run in 1..=3 {
        workers.push(Worker::listening(&stage, run, 16).await);
    }
    let (mut clients, mut next_run, mut deaths) = (Vec::new(), 4, 0);
    for step in 0..300 {
        if clients.len() < 120 && random.percent(60) {
            clients.push(workers[0].connect());
        }
        for worker in &mut workers {
            worker.refuses = random.percent(10);
            if random.percent(50) {
                worker.receive_one();
            }
            worker.serve();
        }
        if random.percent(12) {
            deaths += 1;
            let mut remains = stage.die().await;
            let unsent = (remains.generation << 32) + (1 << 31) + step;
            interrupt_step(&mut remains, &mut random, unsent);
            // The last packet again: the previous God handled it and died before it took it out of the channel.
            for worker in workers.iter_mut().filter(|_| random.percent(50)) {
                if fdpass::unread(&worker.socket).unwrap() == 0 {
                    worker.write(worker.wrote.clone());
                }
            }
            stage = remains.recover();
        }
        if random.percent(3) && workers.len() > 1 {
            let dead = workers.remove(random.below(workers.len() as u64) as usize);
            let run = Run(dead.run);
            drop(dead);
            if random.percent(50) {
                stage.cluster.gone(run);
            }
            workers.push(Worker::listening(&stage, next_run, 16).await);
            next_run += 1;
        }
        tokio::time::sleep(Duration::from_micros(random.below(300))).await;
    }
    assert!(deaths > 15 && clients.len() == 120, "{deaths} deaths, {} clients", clients.len());
    for mut client in clients {
        client.set_nonblocking(true).unwrap();
        let mut got = Vec::new();
        while let Err(error) = std::io::Read::read_to_end(&mut client, &mut got) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "seed {seed}");
            for worker in &mut workers {
                worker.refuses = false;
                worker.receive_all();
                worker.serve();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(got, b"x", "seed {seed}: each client is served once");
    }
}

#[test]
fn every_client_is_served_once_though_god_dies_at_random_moments() {
    for seed in 1..=4 {
        play(scenario(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
    }
}

#[test]
fn a_probe_waits_for_credit_and_an_unready_worker_gets_nothing_else() {
    play(async {
        let stage = Stage::new();
        stage.cluster.mark_not_ready(Run(1));
        let mut worker = Worker::listening(&stage, 1, 0).await;
        let cluster = stage.cluster.clone();
        let probe = tokio::task::spawn_local(async move { cluster.probe(Run(1)).await });
        settle().await;
        assert_eq!(worker.receive_all(), 0, "it has granted no credit");
        let _client = std::net::TcpStream::connect(worker.at.unwrap()).unwrap();
        worker.status.credit = 16;
        worker.send_status();
        let stream = probe.await.unwrap().unwrap();
        settle().await;
        assert_eq!(worker.receive_all(), 1, "it gets the probe, and not the client");
        assert_eq!(worker.files.len(), 1);
        drop(stream);
        stage.cluster.admit(Run(1));
        settle().await;
        assert_eq!(worker.receive_all(), 1);
    });
}

#[test]
fn a_probe_that_is_given_up_is_forgotten() {
    play(async {
        let stage = Stage::new();
        let _worker = Worker::listening(&stage, 1, 0).await;
        for _ in 0..5 {
            let cluster = stage.cluster.clone();
            let probe = tokio::task::spawn_local(async move { cluster.probe(Run(1)).await });
            let waits = |state: &ClusterState| state.probes.iter().any(|probe| !probe.reply.is_closed());
            until("the probe waits", || waits(&stage.cluster.state.borrow())).await;
            probe.abort();
            until("the probe is gone", || !waits(&stage.cluster.state.borrow())).await;
        }
        assert_eq!(stage.cluster.state.borrow().probes.len(), 1);
    });
}
