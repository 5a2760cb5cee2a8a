//! Listening, and which worker gets which connection.

use std::io::{Read, Write};

use super::*;

#[test]
fn idle_workers_get_connections_in_turn_on_one_port() {
    play(async {
        let stage = Stage::new();
        let workers = [stage.listening(1).await, stage.listening(2).await, stage.listening(3).await];
        assert!(workers.iter().all(|worker| worker.port == workers[0].port));
        for round in 0..4 {
            for worker in &workers {
                let mut client = worker.connect();
                let mut socket = std::fs::File::from(worker.accept().await);
                client.write_all(b"hello").unwrap();
                let mut got = [0; 5];
                tokio::task::yield_now().await;
                socket.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"hello", "round {round}");
                wait_for_answers().await;
            }
        }
        let counts: Vec<u64> = (1..=3).map(|run| stage.cluster.connections(Run(run))).collect();
        assert_eq!(counts, [4, 4, 4]);
        let listeners = stage.cluster.listeners();
        assert_eq!((listeners.len(), listeners[0].workers, listeners[0].mechanism.as_str()), (1, 3, "round robin"));
    });
}

/// Gives an answer the time to arrive.
async fn wait_for_answers() {
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn the_unanswered_connections_of_a_dead_worker_go_to_another() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let at = one.at();
        let mut clients = [TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap()];
        let (_, _unread) = one.connection().await;
        two.accept().await;
        drop(one);
        stage.cluster.gone(Run(1));
        let mut socket = std::fs::File::from(two.accept().await);
        socket.write_all(b"served").unwrap();
        let mut got = [0; 6];
        clients[0].read_exact(&mut got).unwrap();
        assert_eq!(&got, b"served");
    });
}

#[test]
fn a_silent_worker_keeps_its_connection_and_gets_no_second() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _clients = [one.connect(), one.connect()];
        let _held = one.connection().await;
        two.accept().await;
        settle().await;
        assert!(two.has_nothing(), "it may wake up and read from it");
        let more: Vec<TcpStream> = (0..6).map(|_| two.connect()).collect();
        for _ in &more {
            two.accept().await;
        }
        assert!(one.has_nothing(), "it has not answered for the first");
    });
}

#[test]
fn a_connection_that_one_worker_refuses_goes_to_another() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _client = one.connect();
        let (seq, _) = one.connection().await;
        one.answer(seq, false);
        two.accept().await;
        wait_for_answers().await;
        assert_eq!((stage.cluster.connections(Run(1)), stage.cluster.connections(Run(2))), (0, 1));
    });
}

#[test]
fn a_refused_connection_waits_for_the_busy_worker_without_spinning() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _clients = [one.connect(), one.connect()];
        let (refused, _) = one.connection().await;
        let (held, _socket) = two.connection().await;
        settle().await;
        one.answer(refused, false);
        settle().await;
        assert!(two.has_nothing() && one.has_nothing());
        two.answer(held, true);
        two.accept().await;
    });
}

#[test]
fn a_connection_that_all_workers_refuse_is_offered_again_after_a_pause() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _client = one.connect();
        let begin = std::time::Instant::now();
        let mut offers = 0;
        while offers < 40 {
            for worker in [&one, &two] {
                if let Ok((seq, _)) = tokio::time::timeout(Duration::from_millis(5), worker.connection()).await {
                    worker.answer(seq, false);
                    offers += 1;
                }
            }
        }
        assert!(begin.elapsed() > Duration::from_millis(500), "{offers} offers in {:?}", begin.elapsed());
        let taken = async { tokio::join!(refuse_on(&one), two.accept()) };
        tokio::time::timeout(TIME_LIMIT, taken).await.expect("it is offered again");
    });
}

async fn refuse_on(worker: &Fake) {
    if let Ok((seq, _)) = tokio::time::timeout(Duration::from_millis(200), worker.connection()).await {
        worker.answer(seq, false);
    }
}

#[test]
fn a_connection_whose_file_was_lost_goes_to_another_worker() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _client = one.connect();
        one.connection().await;
        one.send(&json!({"cmd": "NODE_HANDLE_NACK"}));
        two.accept().await;
    });
}

#[test]
fn connections_wait_for_the_first_worker_and_for_its_successor() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let at = one.at();
        drop(one);
        stage.cluster.gone(Run(1));
        let _client = TcpStream::connect(at).expect("the listener stays");
        let two = stage.listening(2).await;
        assert_eq!(two.at(), at);
        two.accept().await;
    });
}

#[test]
fn nth_listen_on_port_0_is_one_port_for_all() {
    play(async {
        let stage = Stage::new();
        let (mut one, mut two) = (stage.worker(1), stage.worker(2));
        let mut ports = Vec::new();
        for worker in [&mut one, &mut two] {
            for index in 0..2 {
                worker.listen(index).await;
                ports.push(worker.port);
            }
        }
        assert_eq!(ports[..2], ports[2..]);
        assert_ne!(ports[0], ports[1]);
        assert_eq!(stage.cluster.listeners().len(), 2);
    });
}

#[test]
fn failures_to_listen_reach_the_worker_as_errno() {
    play(async {
        let stage = Stage::new();
        let mut one = stage.worker(1);
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = one.query(json!({"port": other.local_addr().unwrap().port()})).await;
        assert_eq!(taken["errno"], -libc::EADDRINUSE);
        let fd = one.query(json!({"address": null, "port": null, "addressType": null, "fd": 9})).await;
        assert_eq!(fd["errno"], -libc::EINVAL);
        let nonsense = one.query(json!({"address": "not an address"})).await;
        assert_eq!(nonsense["errno"], -libc::EINVAL);
        one.listen(0).await;
        let again = one.query(json!({"port": one.port})).await;
        assert_eq!(again["errno"], -libc::EADDRINUSE, "the same port once more in the same worker");
    });
}

#[test]
fn all_workers_get_the_ticket_keys_of_the_first() {
    play(async {
        let stage = Stage::new();
        let first = stage.worker(1).query(json!({"data": {"ticketKeys": "aa"}})).await;
        let second = stage.worker(2).query(json!({"data": {"ticketKeys": "bb"}})).await;
        assert_eq!(first["data"], json!({"ticketKeys": "aa"}));
        assert_eq!(second["data"], first["data"]);
    });
}

#[test]
fn workers_get_shared_sockets_with_balance_shared_and_for_udp() {
    play(async {
        let stage = Stage::with(Balance::Shared);
        let (one, two) = (stage.worker(1), stage.worker(2));
        for worker in [&one, &two] {
            let tcp = worker.query(json!({})).await;
            assert_eq!((&tcp["type"], &tcp["msg"]["errno"]), (&json!("net.Native"), &json!(0)));
            worker.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
            let udp = worker.query(json!({"addressType": "udp4", "fd": -1})).await;
            assert_eq!(udp["type"], "dgram.Native");
            worker.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
            assert_eq!(worker.files.borrow().len(), 2);
        }
        let listeners = stage.cluster.listeners();
        assert_eq!(listeners.len(), 2);
        assert!(listeners.iter().all(|listener| listener.mechanism == "shared handle"));
    });
}

#[test]
fn a_second_file_waits_while_long_messages_are_unread() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let text = "x".repeat(60 << 10);
        stage.cluster.send(Run(1), &json!(text));
        let _clients: Vec<TcpStream> = (0..3).map(|_| one.connect()).collect();
        assert_eq!(one.next().await.unwrap(), json!(text));
        let (first, _socket) = one.connection().await;
        settle().await;
        assert!(one.has_nothing(), "a second file must not follow before the first is acknowledged");
        one.answer(first, true);
        one.accept().await;
        one.accept().await;
    });
}
