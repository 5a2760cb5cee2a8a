//! Queues in the real kernel: which worker gets connections while workers start, drain and die, and after the death of
//! God.

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

/// A worker, with its copy of the socket.
struct Program {
    run: Run,
    socket: OwnedFd,
}

impl Stage {
    fn new(best_balancing: KernelBalancing) -> Stage {
        let (sender, notices) = unbounded_channel();
        let persistence = persistence(1, &Records::new());
        let queues = Queues::new(StateStore { app: APP, persistence: persistence.clone() }, best_balancing, sender);
        // A socket loses a port that the kernel chose for it when it is shut down, so the test chooses one.
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

    /// A worker that has bound a UDP socket at this address.
    fn bind_datagrams(&self, run: u64, address: SocketAddr) -> Program {
        let run = Run(run);
        self.queues.join(run, i32::try_from(std::process::id()).unwrap());
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        share(&socket).unwrap();
        bind(&socket, &address).unwrap();
        self.queues.bound(run, socket.try_clone().unwrap()).unwrap();
        Program { run, socket }
    }

    /// A worker that listens on a socket of its own.
    fn worker(&mut self, run: u64) -> Program {
        let program = self.bind(run);
        self.listen(&program);
        program
    }

    fn listen(&self, program: &Program) {
        let key = self.queues.listening(program.run, &program.socket, 5).unwrap();
        assert_eq!(key.unwrap().address, self.address);
    }

    /// A worker that inherits a vacant queue; `None` if there is none.
    fn successor(&self, run: u64) -> Option<Program> {
        let run = Run(run);
        self.queues.join(run, i32::try_from(std::process::id()).unwrap());
        Some(Program { run, socket: self.queues.inherit(run, &self.key())? })
    }

    fn connect(&self, count: usize) -> Vec<TcpStream> {
        let clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(self.address).unwrap()).collect();
        clients.iter().for_each(|client| self.wait_for(client.local_addr().unwrap()));
        clients
    }

    /// Waits until this client's connection is in a queue: `connect` returns before the last packet of the handshake
    /// arrives.
    fn wait_for(&self, client: SocketAddr) {
        let start = std::time::Instant::now();
        let there = || crate::os::net::diag::connections(self.address.port()).unwrap();
        while !there().iter().any(|connection| connection.peer == client) {
            assert!(start.elapsed() < Duration::from_secs(60), "{client} never came");
            std::thread::yield_now();
        }
    }

    /// Kills God and starts the next one.
    async fn restart_god(self) -> Stage {
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

    fn next_notice(&mut self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }

    async fn drained(&mut self) -> Run {
        let notice = self.notices.recv().await;
        let Some(Notice::Drained { run }) = notice else { panic!("{notice:?}") };
        run
    }
}

impl Program {
    /// Accepts all connections that wait.
    fn accept(&self) -> Vec<OwnedFd> {
        rustix::io::ioctl_fionbio(&self.socket, true).unwrap();
        std::iter::from_fn(|| accept_with(&self.socket, SocketFlags::CLOEXEC).ok()).collect()
    }
}

#[test]
fn connections_go_to_workers_in_rotation() {
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
fn connections_wait_in_the_placeholder_while_all_workers_leave_and_the_next_worker_inherits_them() {
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
            let next = stage.successor(2).expect("connections wait");
            let most = stage.connect(10);
            stage.listen(&next);
            assert_eq!(next.accept().len(), 30);
            assert_eq!(stage.queues.stats(next.run), Some(QueueStats { waiting: 0, open: 0 }));
            assert_eq!(stage.queues.state.borrow().queues.len(), 1, "{balancer:?}: the old queue is removed");
            drop((clients, more, most));
        }
    });
}

#[test]
fn the_successor_inherits_the_queue_of_a_dead_worker() {
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
            match stage.successor(3) {
                Some(next) => {
                    stage.listen(&next);
                    assert_eq!(next.accept().len() + served, 50);
                    assert_eq!(served, 50 - lost as usize, "no new connection went to the dead worker");
                }
                // The kernel moved them.
                None => assert_eq!(served, 50),
            }
        }
    });
}

#[test]
fn the_queue_of_the_last_worker_stays_open_when_it_dies() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Random);
        let dead = stage.worker(1);
        let _waiting = stage.connect(3);
        // Some programs shut their socket down before they exit.
        rustix::net::shutdown(&dead.socket, rustix::net::Shutdown::Both).unwrap();
        stage.queues.gone(dead.run);
        drop(dead);
        let _clients = stage.connect(5);
        let next = stage.successor(2).unwrap();
        stage.listen(&next);
        assert_eq!(next.accept().len(), 5);
    });
}

#[test]
fn an_address_whose_program_closed_its_socket_refuses_connections() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let worker = stage.worker(1);
        assert_eq!(stage.queues.held_by(worker.run).len(), 1);
        stage.queues.state.borrow_mut().release_all_but(worker.run, &HashSet::new());
        assert!(stage.queues.held_by(worker.run).is_empty());
        drop(worker.socket);
        eventually("a connection is refused, as if the daemon had no copy", || {
            TcpStream::connect(stage.address).is_err()
        });
    });
}

#[test]
fn what_waits_in_a_socket_that_a_program_closed_goes_to_other_workers_or_the_next_one() {
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
            match stage.successor(1) {
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
fn workers_with_a_common_queue_accept_from_it_until_the_last_ends() {
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
        assert_eq!(stage.successor(3).unwrap().accept().len(), 2);
    });
}

#[test]
fn a_worker_that_binds_before_the_first_listens_shares_its_queue() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let one = stage.bind(1);
        stage.queues.join(Run(2), 1);
        let two = Program { run: Run(2), socket: stage.queues.join_shared(Run(2), &stage.key()).unwrap() };
        stage.listen(&two);
        stage.listen(&one);
        let _clients = stage.connect(4);
        assert_eq!(one.accept().len(), 4, "all connections are in one queue");
        stage.queues.gone(one.run);
        let _clients = stage.connect(2);
        assert_eq!(two.accept().len(), 2);
    });
}

#[test]
fn a_drain_lasts_until_connections_are_closed_or_idle_or_the_grace_time_is_over() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Random);
        let (leaving, other) = (stage.worker(1), stage.worker(2));
        let mut clients = stage.connect(20);
        let mut served = leaving.accept();
        let began = std::time::Instant::now();
        // Unread bytes keep a connection busy. Without them it would be idle after a second.
        for client in &mut clients {
            std::io::Write::write_all(client, b"?").unwrap();
        }
        stage.queues.drain(leaving.run, Duration::from_secs(100));
        stage.queues.drain(leaving.run, Duration::from_secs(100));
        let _more = stage.connect(5);
        assert!(leaving.accept().is_empty() && !other.accept().is_empty());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(stage.next_notice(), None);
        served.clear();
        assert_eq!(stage.drained().await, leaving.run);
        assert!(began.elapsed() < Duration::from_secs(90));
        let _idle = other.accept();
        stage.queues.drain(other.run, Duration::from_millis(300));
        assert_eq!(stage.drained().await, other.run);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stage.next_notice(), None, "one notice for each drain");
    });
}

#[test]
fn queues_balancers_and_exclusions_outlive_god() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (one, two) = (stage.worker(1), stage.worker(2));
            stage.queues.exclude(one.run);
            let mut stage = stage.restart_god().await;
            let _clients = stage.connect(10);
            assert_eq!((one.accept().len(), two.accept().len()), (0, 10));
            let before = stage.queues.listeners()[0].mechanism.clone();
            let three = stage.worker(3);
            assert_eq!(stage.queues.listeners()[0].mechanism, before, "the same balancer");
            stage.queues.exclude(two.run);
            stage.queues.exclude(three.run);
            let stage = stage.restart_god().await;
            let _clients = stage.connect(10);
            for program in [&one, &two, &three] {
                assert_eq!(program.accept().len(), 0);
                stage.queues.gone(program.run);
            }
            let stage = stage.restart_god().await;
            let next = stage.successor(4).unwrap();
            stage.listen(&next);
            assert_eq!(next.accept().len(), 10);
        }
    });
}
