//! Sockets opened for workers, as their programs and their clients have them, and while Gods die.

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

/// Of an app without anything else.
fn alone(
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
        let activation = alone(&persistence, sender, None);
        Stage { activation, notices, persistence, wanted, address }
    }

    /// A worker, which is this very process, and what it is given.
    fn worker(&self, run: u64) -> TcpListener {
        let mut sockets = self.activation.sockets(Run(run), &self.wanted).unwrap();
        self.activation.join(Run(run), crate::os::process::identity::pid(), false);
        TcpListener::from(sockets.remove(0))
    }

    /// God is killed, and another goes on.
    async fn reborn(self) -> Stage {
        let records = ledger::read(self.persistence.ledger.file().unwrap()).unwrap();
        let mut files: HashMap<String, OwnedFd> =
            ledger::kept(&records).map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let Stage { wanted, address, persistence: before, activation, notices } = self;
        drop((activation, notices));
        tokio::task::yield_now().await;
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(2, &records);
        let queues = records.get(&queues_key(7)).map(|record| (record.as_str(), &mut files));
        let activation = alone(&persistence, sender, queues);
        activation.adopt(&records[&activation_key(7)], &mut files).unwrap();
        drop(before);
        Stage { activation, notices, persistence, wanted, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    async fn read_to_end(&mut self) -> Notice {
        tokio::time::timeout(Duration::from_secs(60), self.notices.recv()).await.expect("it is told").expect("it lives")
    }
}

/// A connection waits there.
async fn knocked(worker: &TcpListener) {
    while diag::waiting(worker.as_fd()).unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn who_accepts_our_knock_listens_and_only_then_gets_what_others_would() {
    play(async {
        let mut stage = Stage::new(None);
        let waiting = |listener: &TcpListener| diag::waiting(listener.as_fd()).unwrap();
        // The last packet of a handshake may be on its way.
        let wait = async |first: &TcpListener, second: &TcpListener, wanted| {
            while (waiting(first), waiting(second)) != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let first = stage.worker(1);
        knocked(&first).await;
        first.accept().unwrap();
        let address = stage.address.to_string();
        assert_eq!(
            stage.read_to_end().await,
            Notice::Listening { run: Run(1), address: address.clone(), accepts: true }
        );
        stage.activation.ready(Run(1));
        let second = stage.worker(2);
        knocked(&second).await;
        let _clients: Vec<TcpStream> = (0..4).map(|_| stage.connect()).collect();
        // The second has its knock and nothing else.
        wait(&first, &second, (4, 1)).await;
        let _held = second.accept().unwrap();
        assert_eq!(stage.read_to_end().await, Notice::Listening { run: Run(2), address, accepts: true });
        stage.activation.ready(Run(2));
        stage.activation.exclude(Run(1));
        let _more: Vec<TcpStream> = (0..3).map(|_| stage.connect()).collect();
        wait(&first, &second, (4, 3)).await;
    });
}

#[test]
fn a_client_who_finds_nobody_is_told_of_and_waits_also_through_the_death_of_god() {
    play(async {
        let stage = Stage::new(Some(Duration::from_secs(60)));
        stage.activation.open(&stage.wanted).unwrap();
        let mut stage = stage.reborn().await;
        stage.activation.open(&stage.wanted).unwrap();
        let _client = stage.connect();
        assert_eq!(stage.read_to_end().await, Notice::Demand { app: 7 });
        let worker = stage.worker(3);
        worker.accept().unwrap();
    });
}

#[test]
fn an_address_that_others_have_is_refused_in_words() {
    play(async {
        let stage = Stage::new(None);
        let _taken = TcpListener::bind(stage.address).unwrap();
        let error = stage.activation.open(&stage.wanted).unwrap_err().to_string();
        assert_eq!(error, format!("tcp://{}: somebody else listens there", stage.address));
    });
}

#[test]
fn a_path_may_have_spaces_and_outlives_god() {
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
        let heir = alone(&persistence(2, &Records::new()), sender, None);
        heir.adopt(&records[&activation_key(7)], &mut files).unwrap();
        assert_eq!(heir.listeners()[0].waiting, 1, "who waits at the door waits on");
        assert!(files.is_empty(), "{files:?}");
    });
}

mod late;
