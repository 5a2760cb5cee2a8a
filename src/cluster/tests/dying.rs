//! God dies while connections are in flight, and the next God goes on. Workers and clients notice nothing.

use std::io::{Read, Write};

use super::*;

/// Answers the client through the worker's socket. Asserts that the client gets this answer and nothing else.
fn serve(socket: OwnedFd, client: &mut TcpStream) {
    let mut socket = TcpStream::from(socket);
    socket.write_all(b"served").unwrap();
    // God may still have the connection open, so it does not end by the drop.
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = String::new();
    client.set_read_timeout(Some(TIME_LIMIT)).unwrap();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, "served");
}

/// A connection that its only worker has refused, so that it waits in God.
async fn refused_connection(one: &Fake) -> TcpStream {
    let client = one.connect();
    let (seq, _) = one.connection().await;
    one.answer(seq, false);
    tokio::task::yield_now().await;
    client
}

#[test]
fn a_connection_that_waits_in_god_is_sent_by_the_next_god() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = refused_connection(&one).await;
        wait_until_read(&one).await;
        let remains = stage.die().await;
        assert!(matches!(remains.connections[..], [(_, Place::Waiting { .. })]));
        let stage = remains.recover();
        one.refuse_sync().await;
        serve(one.accept().await, &mut client);
        wait_until_read(&one).await;
        assert_eq!(stage.cluster.connections(Run(1)), 1);
    });
}

#[test]
fn an_accepted_connection_without_a_slot_is_found_by_its_address() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = refused_connection(&one).await;
        wait_until_read(&one).await;
        let mut remains = stage.die().await;
        let (socket, _) = remains.connections.pop().unwrap();
        remains.rest.push(socket);
        let _stage = remains.recover();
        one.refuse_sync().await;
        serve(one.accept().await, &mut client);
    });
}

#[test]
fn files_that_are_no_connections_of_the_cluster_are_left_alone() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut remains = stage.die().await;
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let elsewhere: OwnedFd = other.accept().unwrap().0.into();
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let mut rest = vec![elsewhere, other.into(), file];
        let (sender, _notices) = unbounded_channel();
        let foreign = Place::Waiting { listener: 1 << 32 | 1, since: None };
        let mut connections = vec![(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), foreign)];
        let recovered = RecoveredCluster {
            records: &remains.records,
            files: &mut remains.files,
            connections: &mut connections,
            rest: &mut rest,
        };
        let persistence = persistence(2, &remains.records);
        let _cluster = Cluster::recover(ClusterOptions::default(), APP, persistence, sender, recovered).unwrap();
        assert_eq!((rest.len(), connections.len()), (3, 1));
        assert!(one.has_nothing());
    });
}

#[test]
fn a_connection_that_was_handed_over_stays_with_its_worker() {
    play(async {
        for acknowledged in [false, true] {
            let stage = Stage::new();
            let (one, two) = (stage.listening(1).await, stage.listening(2).await);
            let mut client = one.connect();
            let (seq, socket) = one.connection().await;
            if acknowledged {
                one.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
                wait_until_read(&one).await;
            }
            let stage = stage.restart_god().await;
            settle().await;
            assert!(two.has_nothing(), "the first may read from it");
            if acknowledged {
                one.send(&json!({"cmd": "NODE_CLUSTER", "ack": seq, "accepted": true, "seq": 1}));
            } else {
                one.answer(seq, true);
            }
            one.refuse_sync().await;
            serve(socket, &mut client);
            settle().await;
            assert!(one.has_nothing() && two.has_nothing());
            assert_eq!(stage.cluster.connections(Run(1)), 1);
        }
    });
}

#[test]
fn a_connection_marked_as_handed_over_but_not_sent_is_sent() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = refused_connection(&one).await;
        wait_until_read(&one).await;
        let mut remains = stage.die().await;
        let Place::Waiting { listener, .. } = remains.connections[0].1 else { panic!("it waits") };
        remains.connections[0].1 = Place::Handed { listener, run: 1, seq: (1 << 32) + 900 };
        let stage = remains.recover();
        let mut second = one.connect();
        one.refuse_sync().await;
        let mut sockets = vec![one.accept().await, one.accept().await];
        wait_until_read(&one).await;
        assert_eq!(stage.cluster.connections(Run(1)), 2);
        // The connections come in any order.
        for client in [&mut client, &mut second] {
            let own = client.local_addr().unwrap();
            let at = sockets.iter().position(|s| TcpStream::from(s.try_clone().unwrap()).peer_addr().unwrap() == own);
            serve(sockets.remove(at.unwrap()), client);
        }
    });
}

#[test]
fn the_next_god_reads_an_answer_that_the_previous_one_did_not() {
    play(async {
        for accepted in [true, false] {
            let stage = Stage::new();
            let (one, two) = (stage.listening(1).await, stage.listening(2).await);
            let mut client = one.connect();
            let (seq, socket) = one.connection().await;
            one.answer(seq, accepted);
            let stage = stage.restart_god().await;
            one.refuse_sync().await;
            if accepted {
                serve(socket, &mut client);
            } else {
                drop(socket);
                two.refuse_sync().await;
                serve(two.accept().await, &mut client);
            }
            wait_until_read(&one).await;
            assert_eq!(stage.cluster.connections(Run(1)), u64::from(accepted));
        }
    });
}

#[test]
fn the_connections_of_a_dead_worker_go_to_another_whether_it_or_god_died_first() {
    play(async {
        for worker_first in [true, false] {
            let stage = Stage::new();
            let (one, two) = (stage.listening(1).await, stage.listening(2).await);
            let mut client = one.connect();
            let (_, unread) = one.connection().await;
            drop(unread);
            let remains = stage.die().await;
            let stage = if worker_first {
                drop(one);
                remains.recover()
            } else {
                let stage = remains.recover();
                drop(one);
                stage
            };
            two.refuse_sync().await;
            serve(two.accept().await, &mut client);
            stage.cluster.gone(Run(1));
            assert!(!stage.records()[&record_key(APP)].contains("\"run\":1,"));
        }
    });
}

#[test]
fn an_answer_that_is_read_twice_counts_once() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let mut client = one.connect();
        let (seq, socket) = one.connection().await;
        one.answer(seq, true);
        wait_until_read(&one).await;
        let stage = stage.restart_god().await;
        // The answer again: the previous God died before it took the line out of the channel.
        one.answer(seq, true);
        wait_until_read(&one).await;
        serve(socket, &mut client);
        let mut more: Vec<TcpStream> = (0..2).map(|_| two.connect()).collect();
        one.refuse_sync().await;
        two.refuse_sync().await;
        serve(one.accept().await, &mut more[0]);
        serve(two.accept().await, &mut more[1]);
        wait_until_read(&one).await;
        // The previous God counted the first connection, but the count was not saved.
        assert_eq!(stage.cluster.connections(Run(1)), 1);
    });
}

#[test]
fn no_file_follows_the_sync_message_before_it_is_answered() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut clients = [one.connect(), one.connect()];
        let (seq, first) = one.connection().await;
        one.answer(seq, true);
        serve(first, &mut clients[0]);
        serve(one.accept().await, &mut clients[1]);
        wait_until_read(&one).await;
        let stage = stage.restart_god().await;
        let mut late = one.connect();
        settle().await;
        one.answer(seq, true);
        one.send(&json!({"cmd": "NODE_HANDLE_NACK"}));
        wait_until_read(&one).await;
        let question = one.next().await.unwrap();
        assert_eq!(question["msg"]["key"], "");
        one.files.borrow_mut().clear();
        settle().await;
        assert!(one.has_nothing(), "the connection waits for the answer");
        one.answer(question["msg"]["seq"].as_u64().unwrap(), false);
        serve(one.accept().await, &mut late);
        wait_until_read(&one).await;
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn no_connection_is_lost_when_god_dies_with_a_full_channel() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let text = "x".repeat(60 << 10);
        stage.cluster.send(Run(1), &json!(text));
        let mut clients: Vec<TcpStream> = (0..4).map(|_| one.connect()).collect();
        settle().await;
        let remains = stage.die().await;
        let handed = remains.connections.iter().filter(|(_, place)| matches!(place, Place::Handed { .. })).count();
        assert_eq!(handed, 1, "the gate was closed to the others");
        let _stage = remains.recover();
        assert_eq!(one.next().await.unwrap(), json!(text));
        let mut served = vec![one.accept().await];
        one.refuse_sync().await;
        for _ in 1..4 {
            served.push(one.accept().await);
        }
        for client in &mut clients {
            let own = client.local_addr().unwrap();
            let at = served.iter().position(|s| TcpStream::from(s.try_clone().unwrap()).peer_addr().unwrap() == own);
            serve(served.remove(at.unwrap()), client);
        }
        settle().await;
        assert!(one.has_nothing());
    });
}

#[test]
fn message_numbers_are_never_reused_and_stay_exact_in_javascript() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut last = 0;
        let mut stage = stage;
        for _ in 0..5 {
            let _client = one.connect();
            let (seq, _socket) = if last == 0 { one.connection().await } else { connection_after_sync(&one).await };
            assert!(seq > last && seq < 1 << 53);
            one.answer(seq, true);
            last = seq;
            wait_until_read(&one).await;
            let mut remains = stage.die().await;
            remains.generation += 3;
            stage = remains.recover();
        }
    });
}

async fn connection_after_sync(one: &Fake) -> (u64, OwnedFd) {
    one.refuse_sync().await;
    one.connection().await
}
