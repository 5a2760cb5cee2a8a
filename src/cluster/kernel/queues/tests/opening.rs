//! How queues are opened and closed: those that the daemon opens, those that programs bind, and sockets that are no
//! queue.

use super::*;

#[test]
fn a_placeholder_can_be_opened_before_the_first_worker_and_all_queues_close_together() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        let free = std::net::TcpListener::bind(stage.address).unwrap();
        let key = Key::of(&free).unwrap().unwrap();
        drop(free);
        stage.address = key.address;
        stage.queues.open_placeholder(&key).unwrap();
        let _clients = stage.connect(3);
        stage.queues.join(Run(1), 1);
        let first = Program { run: Run(1), socket: stage.queues.open(Run(1), &key).unwrap() };
        stage.listen(&first);
        assert_eq!(first.accept().len(), 3);
        stage.queues.join(Run(2), 1);
        let second = Program { run: Run(2), socket: stage.queues.open(Run(2), &key).unwrap() };
        let _clients = stage.connect(2);
        assert_eq!(first.accept().len(), 2, "the other does not listen yet");
        stage.listen(&second);
        let _clients = stage.connect(2);
        assert_eq!(second.accept().len(), 1);
        stage.queues.close();
        eventually("a connection is refused", || TcpStream::connect(stage.address).is_err());
        let records = ledger::read(stage.persistence.ledger.file().unwrap()).unwrap();
        assert_eq!(ledger::kept(&records).count(), 0, "{records:?}");
    });
}

#[test]
fn a_socket_that_was_not_bound_through_the_queues_is_left_alone() {
    play(async {
        let stage = Stage::new(KernelBalancing::Random);
        stage.queues.join(Run(1), 1);
        let other = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        listen(&other, 1).unwrap();
        assert_eq!(stage.queues.listening(Run(1), &other, 5).unwrap(), None);
        assert_eq!(stage.queues.stats(Run(1)), None);
    });
}

#[test]
fn a_socket_that_cannot_listen_leaves_no_queue_and_no_group() {
    play(async {
        let stage = Stage::new(KernelBalancing::RoundRobin);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let key = Key::of(&connected).unwrap().unwrap();
        let mut state = stage.queues.state.borrow_mut();
        let at = state.insert(key, connected.into()).unwrap();
        state.enter(at, 1).unwrap_err();
        assert!(state.queues.is_empty() && state.groups.is_empty(), "{state:?}");
    });
}

#[test]
fn the_configured_backlog_is_the_least_length_of_a_queue() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(QueueRule { backlog: Some(1500), ..QueueRule::default() });
        let _worker = stage.worker(1);
        let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let listeners = crate::os::net::diag::listeners(stage.address.port()).unwrap();
        assert_eq!(listeners[0].backlog, 1500.min(longest.trim().parse().unwrap()));
    });
}
