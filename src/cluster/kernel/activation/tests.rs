//! Activation sockets, as workers and clients use them, and after the death of God.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::cluster::tests::{copy, persistence, play};
use crate::cluster::{Persistence, queues_key};
use crate::keeper::{Records, ledger};
use crate::os::net::diag;
use crate::os::net::reuseport::KernelBalancing;

struct Stage {
    activation: Activation,
    notices: UnboundedReceiver<Notice>,
    persistence: Persistence,
    wanted: spec::Activation,
    address: SocketAddr,
}

/// The activation of an app without a cluster, new or with the previous God's record and files of its queues.
fn activation(
    persistence: &Persistence,
    notices: UnboundedSender<Notice>,
    before: Option<(&str, &mut HashMap<String, OwnedFd>)>,
) -> Activation {
    let store = StateStore { app: 7, persistence: persistence.clone() };
    let queues = match before {
        None => Queues::new(store.clone(), KernelBalancing::RoundRobin, notices.clone()),
        Some((record, files)) => {
            Queues::adopt(store.clone(), KernelBalancing::RoundRobin, notices.clone(), record, files).unwrap()
        }
    };
    Activation::new(queues, store, notices)
}

impl Stage {
    fn new(idle_timeout: Option<Duration>) -> Stage {
        let address = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
        let listen = vec![format!("tcp://{address}").parse().unwrap()];
        let wanted = spec::Activation { listen, idle_timeout, min_instances: None };
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(1, &Records::new());
        let activation = activation(&persistence, sender, None);
        Stage { activation, notices, persistence, wanted, address }
    }

    /// A worker, which is this process, and its activation socket.
    fn worker(&self, run: u64) -> TcpListener {
        let mut sockets = self.activation.sockets(Run(run), &self.wanted).unwrap();
        self.activation.join(Run(run), crate::os::process::identity::pid(), false);
        TcpListener::from(sockets.remove(0))
    }

    /// Kills God and starts the next one.
    async fn restart_god(self) -> Stage {
        let records = ledger::read(self.persistence.ledger.file().unwrap()).unwrap();
        let mut files: HashMap<String, OwnedFd> =
            ledger::kept(&records).map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let Stage { wanted, address, persistence: before, activation: last, notices } = self;
        drop((last, notices));
        tokio::task::yield_now().await;
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(2, &records);
        let queues = records.get(&queues_key(7)).map(|record| (record.as_str(), &mut files));
        let activation = activation(&persistence, sender, queues);
        activation.adopt(&records[&activation_key(7)], &mut files).unwrap();
        drop(before);
        Stage { activation, notices, persistence, wanted, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    async fn next_notice(&mut self) -> Notice {
        let notice = tokio::time::timeout(Duration::from_secs(60), self.notices.recv()).await;
        notice.expect("a notice comes").expect("the activation is not dropped")
    }
}

/// Waits until a connection waits in the worker's queue: the daemon's probe.
async fn probe_arrives(worker: &TcpListener) {
    while diag::waiting(worker.as_fd()).unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_worker_enters_the_rotation_when_it_has_accepted_the_probe() {
    play(async {
        let mut stage = Stage::new(None);
        let waiting = |listener: &TcpListener| diag::waiting(listener.as_fd()).unwrap();
        // `connect` returns before the last packet of the handshake arrives.
        let wait = async |first: &TcpListener, second: &TcpListener, wanted| {
            while (waiting(first), waiting(second)) != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let first = stage.worker(1);
        probe_arrives(&first).await;
        first.accept().unwrap();
        let address = stage.address.to_string();
        assert_eq!(
            stage.next_notice().await,
            Notice::Listening { run: Run(1), address: address.clone(), accepts: true }
        );
        stage.activation.ready(Run(1));
        let second = stage.worker(2);
        probe_arrives(&second).await;
        let _clients: Vec<TcpStream> = (0..4).map(|_| stage.connect()).collect();
        // The second worker has the probe and nothing else.
        wait(&first, &second, (4, 1)).await;
        let _held = second.accept().unwrap();
        assert_eq!(stage.next_notice().await, Notice::Listening { run: Run(2), address, accepts: true });
        stage.activation.ready(Run(2));
        stage.activation.exclude(Run(1));
        let _more: Vec<TcpStream> = (0..3).map(|_| stage.connect()).collect();
        wait(&first, &second, (4, 3)).await;
    });
}

#[test]
fn a_client_that_finds_no_worker_is_reported_and_waits_also_after_the_death_of_god() {
    play(async {
        let stage = Stage::new(Some(Duration::from_secs(60)));
        stage.activation.open(&stage.wanted).unwrap();
        let mut stage = stage.restart_god().await;
        stage.activation.open(&stage.wanted).unwrap();
        let _client = stage.connect();
        assert_eq!(stage.next_notice().await, Notice::Demand { app: 7 });
        let worker = stage.worker(3);
        worker.accept().unwrap();
    });
}

#[test]
fn an_address_that_another_process_has_is_an_error_with_a_reason() {
    play(async {
        let stage = Stage::new(None);
        let _taken = TcpListener::bind(stage.address).unwrap();
        let error = stage.activation.open(&stage.wanted).unwrap_err().to_string();
        assert_eq!(error, format!("tcp://{}: another process listens there", stage.address));
    });
}

#[test]
fn a_path_may_have_spaces_and_its_socket_outlives_god() {
    play(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("an app's 100%\nsocket");
        let wanted = spec::Activation {
            listen: vec![format!("unix://{}", path.display()).parse().unwrap()],
            ..spec::Activation::default()
        };
        let stage = Stage { wanted, ..Stage::new(None) };
        stage.activation.open(&stage.wanted).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let records = ledger::read(stage.persistence.ledger.file().unwrap()).unwrap();
        let mut files: HashMap<String, OwnedFd> =
            ledger::kept(&records).map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let (sender, _notices) = unbounded_channel();
        let next = activation(&persistence(2, &Records::new()), sender, None);
        next.adopt(&records[&activation_key(7)], &mut files).unwrap();
        assert_eq!(next.listeners()[0].waiting, 1, "the client waits on");
        assert!(files.is_empty(), "{files:?}");
    });
}

mod late;
