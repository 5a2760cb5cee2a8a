//! Workers on a channel of pmr's own, played packet by packet: credit, batches, leaving; and a God who dies again and
//! again at moments chosen by chance, under which each client is served exactly once.

use super::surviving::{Chance, leave_half_done};
use super::*;
use crate::os::net::packets;
use crate::protocol::channel::{FromDaemon, FromWorker, MOST, PACKET, Status, VERSION};

const GRACE: Duration = Duration::from_secs(100);

/// The worker's side.
struct Worker {
    run: u64,
    socket: OwnedFd,
    /// The IPC channel, of which it makes no use.
    _ipc: OwnedFd,
    status: Status,
    /// Received and not served.
    files: VecDeque<OwnedFd>,
    at: Option<SocketAddr>,
    drains: u32,
    /// What it last wrote.
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

    /// One that listens at the port all share.
    async fn listening(stage: &Stage, run: u64, credit: u32) -> Worker {
        let mut worker = Worker::join(stage, run);
        worker.status.credit = credit;
        worker.say(&FromWorker::Hello { version: VERSION });
        worker.say(&FromWorker::Listen { index: 5, backlog: 0, address: "127.0.0.1:0" });
        worker.tell();
        while worker.at.is_none() {
            worker.hear();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        quiet().await;
        worker
    }

    fn say(&mut self, message: &FromWorker<'_>) {
        self.write(message.encode());
    }

    fn write(&mut self, packet: Vec<u8>) {
        packets::send(&self.socket, &packet, &[]).unwrap();
        self.wrote = packet;
    }

    fn tell(&mut self) {
        let status = self.status;
        self.say(&FromWorker::Status(status));
    }

    /// Takes in all that is there; how many connections that was.
    fn hear(&mut self) -> usize {
        let mut arrived = 0;
        while let Some(count) = self.hear_one() {
            arrived += count;
        }
        arrived
    }

    /// The next packet, if there is one.
    fn hear_one(&mut self) -> Option<usize> {
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
            self.tell();
        }
        Some(0)
    }

    fn arrived(&mut self, numbers: &[u64], mut files: Vec<OwnedFd>) -> usize {
        assert!(numbers.len() <= self.status.credit as usize, "never more than was granted");
        if self.refuses {
            let number = numbers[0];
            drop(files.remove(0));
            self.say(&FromWorker::Refuse { number });
        }
        self.status.taken = *numbers.last().unwrap();
        self.tell();
        let count = files.len();
        self.files.extend(files);
        count
    }

    /// One byte for each connection it has.
    fn serve(&mut self) {
        for file in self.files.drain(..) {
            std::io::Write::write_all(&mut TcpStream::from(file), b"x").unwrap();
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at.unwrap()).unwrap()
    }
}

/// Waits until the worker has got so many, and no more.
async fn gets(worker: &mut Worker, count: usize) {
    while worker.files.len() < count {
        worker.hear();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    quiet().await;
    worker.hear();
    assert_eq!(worker.files.len(), count);
}

#[test]
fn a_burst_travels_together_and_is_dealt_evenly() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let mut two = Worker::listening(&stage, 2, 16).await;
        assert_eq!(one.at, two.at);
        let _clients: Vec<_> = (0..20).map(|_| one.connect()).collect();
        gets(&mut one, 10).await;
        gets(&mut two, 10).await;
        assert!(one.largest > 1, "more than one in a packet");
        assert_eq!((stage.cluster.connections(Run(1)), stage.cluster.connections(Run(2))), (10, 10));
        assert_eq!(stage.cluster.listeners()[0].workers, 2);
    });
}

#[test]
fn no_more_than_the_credit_is_under_way() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 0).await;
        let _clients: Vec<_> = (0..5).map(|_| one.connect()).collect();
        quiet().await;
        assert_eq!(one.hear(), 0);
        one.status.credit = 2;
        one.tell();
        let mut buffer = [0; PACKET];
        let mut files = Vec::new();
        until("as many as it grants have come, in one packet or in two", || {
            files.extend(packets::receive(&one.socket, &mut buffer).into_iter().flat_map(|(_, files)| files));
            files.len() >= 2
        })
        .await;
        assert_eq!(files.len(), 2);
        quiet().await;
        assert!(one.hear_one().is_none(), "nothing more before it has told that it has those");
        drop(one);
        let mut two = Worker::listening(&stage, 2, 16).await;
        gets(&mut two, 5).await;
    });
}

#[test]
fn what_is_refused_goes_to_another() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        one.refuses = true;
        let client = one.connect();
        quiet().await;
        assert_eq!(one.hear(), 0);
        let mut two = Worker::listening(&stage, 2, 16).await;
        gets(&mut two, 1).await;
        drop(client);
    });
}

#[test]
fn it_drains_when_told_and_says_when_it_is_done() {
    play(async {
        let mut stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let _client = one.connect();
        gets(&mut one, 1).await;
        stage.cluster.drain(Run(1), GRACE);
        let _late = one.connect();
        let mut stage = {
            while stage.notices.try_recv().is_ok() {}
            quiet().await;
            assert_eq!((one.hear(), one.drains), (0, 1));
            stage.reborn().await
        };
        stage.cluster.drain(Run(1), GRACE);
        while stage.notices.try_recv().is_ok() {}
        quiet().await;
        one.hear();
        one.say(&FromWorker::Drained);
        assert_eq!(stage.notice().await, Notice::Drained { run: Run(1) });
        let mut two = Worker::listening(&stage, 2, 16).await;
        gets(&mut two, 1).await;
    });
}

#[test]
fn nonsense_and_what_comes_before_hello_change_nothing() {
    play(async {
        let mut stage = Stage::new();
        let mut strange = Worker::join(&stage, 9);
        strange.say(&FromWorker::Ready);
        strange.say(&FromWorker::Listen { index: 0, backlog: 0, address: "127.0.0.1:0" });
        for length in 1..100 {
            strange.write(vec![0xff; length]);
        }
        strange.write(vec![1; 4 * PACKET]);
        assert!(stage.told_nothing().await && stage.cluster.listeners().is_empty());
        drop(strange);
        assert_eq!(stage.notice().await, Notice::Disconnected { run: Run(9) });
    });
}

#[test]
fn a_listener_is_named_once_and_said_to_be_impossible_in_numbers() {
    play(async {
        let stage = Stage::new();
        let mut one = Worker::listening(&stage, 1, 16).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = taken.local_addr().unwrap().to_string();
        let cases = [(5, &*elsewhere, libc::EEXIST), (6, &elsewhere, libc::EADDRINUSE), (7, "home", libc::EINVAL)];
        for (index, address, errno) in cases {
            one.say(&FromWorker::Listen { index, backlog: 0, address });
            quiet().await;
            let mut buffer = [0; PACKET];
            let (count, _) = packets::receive(&one.socket, &mut buffer).unwrap();
            let answer = FromDaemon::Listening { index, errno: u16::try_from(errno).unwrap(), address: "" };
            assert_eq!(FromDaemon::decode(&buffer[..count]), Ok(answer));
        }
    });
}

async fn story(seed: u64) {
    let mut chance = Chance(seed);
    let mut stage = Stage::new();
    let mut workers = Vec::new();
    for run in 1..=3 {
        workers.push(Worker::listening(&stage, run, 16).await);
    }
    let (mut clients, mut next_run, mut deaths) = (Vec::new(), 4, 0);
    for step in 0..300 {
        if clients.len() < 120 && chance.happens(60) {
            clients.push(workers[0].connect());
        }
        for worker in &mut workers {
            worker.refuses = chance.happens(10);
            if chance.happens(50) {
                worker.hear_one();
            }
            worker.serve();
        }
        if chance.happens(12) {
            deaths += 1;
            let mut remains = stage.die().await;
            let unsent = (remains.generation << 32) + (1 << 31) + step;
            leave_half_done(&mut remains, &mut chance, unsent);
            // He acted on the last of what was written, and did not take it away.
            for worker in workers.iter_mut().filter(|_| chance.happens(50)) {
                if fdpass::unread(&worker.socket).unwrap() == 0 {
                    worker.write(worker.wrote.clone());
                }
            }
            stage = remains.recover();
        }
        if chance.happens(3) && workers.len() > 1 {
            let dead = workers.remove(chance.below(workers.len() as u64) as usize);
            let run = Run(dead.run);
            drop(dead);
            if chance.happens(50) {
                stage.cluster.gone(run);
            }
            workers.push(Worker::listening(&stage, next_run, 16).await);
            next_run += 1;
        }
        tokio::time::sleep(Duration::from_micros(chance.below(300))).await;
    }
    assert!(deaths > 15 && clients.len() == 120, "{deaths} deaths, {} clients", clients.len());
    for mut client in clients {
        client.set_nonblocking(true).unwrap();
        let mut got = Vec::new();
        while let Err(error) = std::io::Read::read_to_end(&mut client, &mut got) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "seed {seed}");
            for worker in &mut workers {
                worker.refuses = false;
                worker.hear();
                worker.serve();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(got, b"x", "seed {seed}: each is served, and once");
    }
}

#[test]
fn every_client_is_served_once_whatever_god_dies_of() {
    for seed in 1..=4 {
        play(story(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
    }
}

#[test]
fn who_asks_it_waits_for_its_credit_and_who_is_withheld_is_dealt_nothing_else() {
    play(async {
        let stage = Stage::new();
        stage.cluster.mark_not_ready(Run(1));
        let mut worker = Worker::listening(&stage, 1, 0).await;
        let cluster = stage.cluster.clone();
        let asking = tokio::task::spawn_local(async move { cluster.probe(Run(1)).await });
        quiet().await;
        assert_eq!(worker.hear(), 0, "it has granted none");
        let _client = std::net::TcpStream::connect(worker.at.unwrap()).unwrap();
        worker.status.credit = 16;
        worker.tell();
        let stream = asking.await.unwrap().unwrap();
        quiet().await;
        assert_eq!(worker.hear(), 1, "it gets what asks it, and not what waits");
        assert_eq!(worker.files.len(), 1);
        drop(stream);
        stage.cluster.admit(Run(1));
        quiet().await;
        assert_eq!(worker.hear(), 1);
    });
}

#[test]
fn who_gives_up_asking_is_forgotten() {
    play(async {
        let stage = Stage::new();
        let _worker = Worker::listening(&stage, 1, 0).await;
        for _ in 0..5 {
            let cluster = stage.cluster.clone();
            let asking = tokio::task::spawn_local(async move { cluster.probe(Run(1)).await });
            let waits = |state: &ClusterState| state.probes.iter().any(|probe| !probe.reply.is_closed());
            until("it waits", || waits(&stage.cluster.state.borrow())).await;
            asking.abort();
            until("it has gone", || !waits(&stage.cluster.state.borrow())).await;
        }
        assert_eq!(stage.cluster.state.borrow().probes.len(), 1);
    });
}
