//! Queues as the kernel has them: who gets connections while workers come, leave, die, and while Gods do.

mod queue_timeout;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::cluster::Persistence;
use crate::cluster::tests::{copy, persistence, play};
use crate::keeper::{Records, ledger};
use crate::os::eventually::eventually;
use crate::os::net::reuseport::share;

mod datagrams;
mod not_ready;
mod opening;
mod sticky;

const APP: u32 = 7;
const BOTH: [KernelBalancing; 2] = [KernelBalancing::RoundRobin, KernelBalancing::Random];

struct Stage {
    queues: Queues,
    notices: UnboundedReceiver<Notice>,
    persistence: Persistence,
    best_balancing: KernelBalancing,
    address: SocketAddr,
}

/// What a program has: its end of the socket.
struct Program {
    run: Run,
    socket: OwnedFd,
}

impl Stage {
    fn new(best_balancing: KernelBalancing) -> Stage {
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(1, &Records::new());
        let queues = Queues::new(StateStore { app: APP, persistence: persistence.clone() }, best_balancing, sender);
        // One that the kernel chose for a socket, that socket loses when it is shut down.
        let address = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
        Stage { queues, notices, persistence, best_balancing, address }
    }

    fn key(&self) -> Key {
        self.queues.state.borrow().queues[0].key
    }

    fn bind(&mut self, run: u64) -> Program {
        let run = Run(run);
        self.queues.join(run, i32::try_from(std::process::id()).unwrap());
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        share(&socket).unwrap();
        bind(&socket, &self.address).unwrap();
        self.queues.bound(run, socket.try_clone().unwrap()).unwrap();
        Program { run, socket }
    }

    /// A worker that has bound a socket for datagrams at this address.
    fn bind_datagrams(&self, run: u64, address: SocketAddr) -> Program {
        let run = Run(run);
        self.queues.join(run, i32::try_from(std::process::id()).unwrap());
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        share(&socket).unwrap();
        bind(&socket, &address).unwrap();
        self.queues.bound(run, socket.try_clone().unwrap()).unwrap();
        Program { run, socket }
    }

    /// A worker that listens, on a socket of its own.
    fn worker(&mut self, run: u64) -> Program {
        let program = self.bind(run);
        self.listen(&program);
        program
    }

    fn listen(&self, program: &Program) {
        let key = self.queues.listening(program.run, &program.socket, 5).unwrap();
        assert_eq!(key.unwrap().address, self.address);
    }

    /// A worker that is given what waits.
    fn heir(&self, run: u64) -> Option<Program> {
        let run = Run(run);
        self.queues.join(run, i32::try_from(std::process::id()).unwrap());
        Some(Program { run, socket: self.queues.inherit(run, &self.key())? })
    }

    fn connect(&self, count: usize) -> Vec<TcpStream> {
        let clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(self.address).unwrap()).collect();
        clients.iter().for_each(|client| self.arrives(client.local_addr().unwrap()));
        clients
    }

    /// Waits until this client is in a queue. The last packet of its handshake may be on its way.
    fn arrives(&self, client: SocketAddr) {
        let start = std::time::Instant::now();
        let there = || crate::os::net::diag::connections(self.address.port()).unwrap();
        while !there().iter().any(|connection| connection.peer == client) {
            assert!(start.elapsed() < Duration::from_secs(60), "{client} never came");
            std::thread::yield_now();
        }
    }

    /// God is killed, and another goes on.
    async fn reborn(self) -> Stage {
        let records = ledger::read(self.persistence.ledger.file().unwrap()).unwrap();
        let kept = ledger::kept(&records);
        let mut files = kept.map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let (best_balancing, address) = (self.best_balancing, self.address);
        drop(self);
        tokio::task::yield_now().await;
        let persistence = persistence(2, &records);
        let (sender, notices) = unbounded_channel();
        let store = StateStore { app: APP, persistence: persistence.clone() };
        let queues = Queues::adopt(store, best_balancing, sender, &records[&queues_key(APP)], &mut files).unwrap();
        assert!(files.is_empty(), "{files:?}");
        Stage { queues, notices, persistence, best_balancing, address }
    }

    fn read_to_end(&mut self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }

    async fn drained(&mut self) -> Run {
        let notice = self.notices.recv().await;
        let Some(Notice::Drained { run }) = notice else { panic!("{notice:?}") };
        run
    }
}

impl Program {
    /// Accepts all that wait.
    fn accept(&self) -> Vec<OwnedFd> {
        rustix::io::ioctl_fionbio(&self.socket, true).unwrap();
        std::iter::from_fn(|| accept_with(&self.socket, SocketFlags::CLOEXEC).ok()).collect()
    }
}

#[test]
fn connections_go_to_those_in_rotation() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (one, two) = (stage.worker(1), stage.worker(2));
            let not_yet = stage.bind(3);
            let _clients = stage.connect(60);
            let (first, second) = (one.accept().len(), two.accept().len());
            assert!(first + second == 60 && first > 10 && second > 10, "{first} {second}");
            stage.listen(&not_yet);
            stage.queues.exclude(one.run);
            stage.queues.exclude(two.run);
            let _clients = stage.connect(20);
            assert_eq!((one.accept().len(), two.accept().len(), not_yet.accept().len()), (0, 0, 20));
            assert_eq!(stage.queues.listeners()[0].workers, 3);
        }
    });
}

#[test]
fn the_door_takes_what_comes_while_all_leave_and_the_next_inherits_it() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let old = stage.worker(1);
            stage.queues.exclude(old.run);
            let clients = stage.connect(10);
            assert_eq!(old.accept().len(), 0);
            stage.queues.gone(old.run);
            drop(old);
            let more = stage.connect(10);
            let next = stage.heir(2).expect("something waits");
            let most = stage.connect(10);
            stage.listen(&next);
            assert_eq!(next.accept().len(), 30);
            assert_eq!(stage.queues.stats(next.run), Some(QueueStats { waiting: 0, open: 0 }));
            assert_eq!(stage.queues.state.borrow().queues.len(), 1, "{balancer:?}: nothing is left of the old one");
            drop((clients, more, most));
        }
    });
}

#[test]
fn the_queue_of_the_dead_is_its_successors() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (dead, other) = (stage.worker(1), stage.worker(2));
            let _clients = stage.connect(40);
            let lost = stage.queues.stats(dead.run).unwrap().waiting;
            stage.queues.gone(dead.run);
            drop(dead);
            let _more = stage.connect(10);
            let served = other.accept().len();
            match stage.heir(3) {
                Some(next) => {
                    stage.listen(&next);
                    assert_eq!(next.accept().len() + served, 50);
                    assert_eq!(served, 50 - lost as usize, "nothing new went to the dead");
                }
                // The kernel moved them.
                None => assert_eq!(served, 50),
            }
        }
    });
}

#[test]
fn the_last_one_that_dies_leaves_its_queue_open() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Random);
        let dead = stage.worker(1);
        let _waiting = stage.connect(3);
        // Its program shut it down before it died, as some do.
        rustix::net::shutdown(&dead.socket, rustix::net::Shutdown::Both).unwrap();
        stage.queues.gone(dead.run);
        drop(dead);
        let _clients = stage.connect(5);
        let next = stage.heir(2).unwrap();
        stage.listen(&next);
        assert_eq!(next.accept().len(), 5);
    });
}

#[test]
fn what_a_program_closed_is_closed() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let probe = stage.worker(1);
        assert_eq!(stage.queues.held_by(probe.run).len(), 1);
        stage.queues.state.borrow_mut().release_all_but(probe.run, &HashSet::new());
        assert!(stage.queues.held_by(probe.run).is_empty());
        drop(probe.socket);
        eventually("it is refused, as if we had no copy", || TcpStream::connect(stage.address).is_err());
    });
}

#[test]
fn what_waits_where_a_program_has_closed_is_for_others_or_for_the_next() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (closing, other) = (stage.worker(1), stage.worker(2));
            let _clients = stage.connect(40);
            let waited = stage.queues.stats(closing.run).unwrap().waiting as usize;
            assert!(waited > 0);
            stage.queues.state.borrow_mut().release_all_but(closing.run, &HashSet::new());
            drop(closing.socket);
            let _more = stage.connect(10);
            let served = other.accept().len();
            match stage.heir(1) {
                Some(again) => {
                    stage.listen(&again);
                    assert_eq!((again.accept().len(), served), (waited, 50 - waited));
                }
                // The kernel moved them.
                None => assert_eq!(served, 50),
            }
        }
    });
}

#[test]
fn one_queue_for_all() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let one = stage.worker(1);
        stage.queues.join(Run(2), 1);
        let key = stage.key();
        let two = Program { run: Run(2), socket: stage.queues.join_shared(Run(2), &key).unwrap() };
        stage.listen(&two);
        stage.queues.exclude(one.run);
        let _clients = stage.connect(4);
        stage.queues.gone(one.run);
        assert_eq!(two.accept().len(), 4);
        assert_eq!(stage.queues.listeners()[0].workers, 1);
        stage.queues.gone(two.run);
        let _clients = stage.connect(2);
        assert_eq!(stage.heir(3).unwrap().accept().len(), 2);
    });
}

#[test]
fn who_binds_before_the_first_listens_has_the_same_queue() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let one = stage.bind(1);
        stage.queues.join(Run(2), 1);
        let two = Program { run: Run(2), socket: stage.queues.join_shared(Run(2), &stage.key()).unwrap() };
        stage.listen(&two);
        stage.listen(&one);
        let _clients = stage.connect(4);
        assert_eq!(one.accept().len(), 4, "all is in one");
        stage.queues.gone(one.run);
        let _clients = stage.connect(2);
        assert_eq!(two.accept().len(), 2);
    });
}

#[test]
fn a_drain_lasts_until_connections_end_or_are_idle_or_time_is_up() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Random);
        let (leaving, other) = (stage.worker(1), stage.worker(2));
        let mut clients = stage.connect(20);
        let mut served = leaving.accept();
        let began = std::time::Instant::now();
        // A question without an answer keeps it there beyond the time after which the others count as idle.
        for client in &mut clients {
            std::io::Write::write_all(client, b"?").unwrap();
        }
        stage.queues.drain(leaving.run, Duration::from_secs(100));
        stage.queues.drain(leaving.run, Duration::from_secs(100));
        let _more = stage.connect(5);
        assert!(leaving.accept().is_empty() && !other.accept().is_empty());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(stage.read_to_end(), None);
        served.clear();
        assert_eq!(stage.drained().await, leaving.run);
        assert!(began.elapsed() < Duration::from_secs(90));
        let _idle = other.accept();
        stage.queues.drain(other.run, Duration::from_millis(300));
        assert_eq!(stage.drained().await, other.run);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stage.read_to_end(), None, "told once");
    });
}

#[test]
fn all_of_it_outlives_god() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (one, two) = (stage.worker(1), stage.worker(2));
            stage.queues.exclude(one.run);
            let mut stage = stage.reborn().await;
            let _clients = stage.connect(10);
            assert_eq!((one.accept().len(), two.accept().len()), (0, 10));
            let before = stage.queues.listeners()[0].mechanism.clone();
            let three = stage.worker(3);
            assert_eq!(stage.queues.listeners()[0].mechanism, before, "the same balancer");
            stage.queues.exclude(two.run);
            stage.queues.exclude(three.run);
            let stage = stage.reborn().await;
            let _clients = stage.connect(10);
            for program in [&one, &two, &three] {
                assert_eq!(program.accept().len(), 0);
                stage.queues.gone(program.run);
            }
            let stage = stage.reborn().await;
            let next = stage.heir(4).unwrap();
            stage.listen(&next);
            assert_eq!(next.accept().len(), 10);
        }
    });
}
