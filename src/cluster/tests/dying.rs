//! God dies while connections are on their way, and the next one goes on. Workers and clients notice nothing.

use std::io::{Read, Write};

use super::*;

/// The worker that has the socket says so to the client, who has heard nothing before.
fn serve(socket: OwnedFd, client: &mut TcpStream) {
    let mut socket = TcpStream::from(socket);
    socket.write_all(b"served").unwrap();
    // God may have it open still.
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = String::new();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, "served");
}

/// A connection that all have turned down waits with us.
async fn turned_down(one: &Fake) -> TcpStream {
    let client = one.connect();
    let (seq, _) = one.connection().await;
    one.answer(seq, false);
    tokio::task::yield_now().await;
    client
}

#[test]
fn one_that_waits_with_us_is_dealt_out() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = turned_down(&one).await;
        heard(&one).await;
        let remains = stage.die().await;
        assert!(matches!(remains.connections[..], [(_, Place::Waiting { .. })]));
        let stage = remains.recover();
        one.reassure().await;
        serve(one.accept().await, &mut client);
        heard(&one).await;
        assert_eq!(stage.cluster.connections(Run(1)), 1);
    });
}

#[test]
fn one_accepted_and_not_written_down_is_found_by_its_address() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = turned_down(&one).await;
        heard(&one).await;
        let mut remains = stage.die().await;
        let (socket, _) = remains.connections.pop().unwrap();
        remains.rest.push(socket);
        let _stage = remains.recover();
        one.reassure().await;
        serve(one.accept().await, &mut client);
    });
}

#[test]
fn what_is_not_a_connection_of_ours_is_left_alone() {
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
fn one_handed_over_stays_with_its_worker() {
    play(async {
        for acknowledged in [false, true] {
            let stage = Stage::new();
            let (one, two) = (stage.listening(1).await, stage.listening(2).await);
            let mut client = one.connect();
            let (seq, socket) = one.connection().await;
            if acknowledged {
                one.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
                heard(&one).await;
            }
            let stage = stage.reborn().await;
            quiet().await;
            assert!(two.has_nothing(), "the first may read from it");
            if acknowledged {
                one.say(&json!({"cmd": "NODE_CLUSTER", "ack": seq, "accepted": true, "seq": 1}));
            } else {
                one.answer(seq, true);
            }
            one.reassure().await;
            serve(socket, &mut client);
            quiet().await;
            assert!(one.has_nothing() && two.has_nothing());
            assert_eq!(stage.cluster.connections(Run(1)), 1);
        }
    });
}

#[test]
fn one_written_down_as_handed_over_and_never_sent_is_sent() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut client = turned_down(&one).await;
        heard(&one).await;
        let mut remains = stage.die().await;
        let Place::Waiting { listener, .. } = remains.connections[0].1 else { panic!("it waits") };
        remains.connections[0].1 = Place::Handed { listener, run: 1, seq: (1 << 32) + 900 };
        let stage = remains.recover();
        let mut second = one.connect();
        one.reassure().await;
        let mut sockets = vec![one.accept().await, one.accept().await];
        heard(&one).await;
        assert_eq!(stage.cluster.connections(Run(1)), 2);
        // They come in any order.
        for client in [&mut client, &mut second] {
            let own = client.local_addr().unwrap();
            let at = sockets.iter().position(|s| TcpStream::from(s.try_clone().unwrap()).peer_addr().unwrap() == own);
            serve(sockets.remove(at.unwrap()), client);
        }
    });
}

#[test]
fn an_answer_nobody_read_is_heard_by_the_next() {
    play(async {
        for accepted in [true, false] {
            let stage = Stage::new();
            let (one, two) = (stage.listening(1).await, stage.listening(2).await);
            let mut client = one.connect();
            let (seq, socket) = one.connection().await;
            one.answer(seq, accepted);
            let stage = stage.reborn().await;
            one.reassure().await;
            if accepted {
                serve(socket, &mut client);
            } else {
                drop(socket);
                two.reassure().await;
                serve(two.accept().await, &mut client);
            }
            heard(&one).await;
            assert_eq!(stage.cluster.connections(Run(1)), u64::from(accepted));
        }
    });
}

#[test]
fn the_dead_workers_connections_go_to_another_whoever_of_the_two_died_first() {
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
            two.reassure().await;
            serve(two.accept().await, &mut client);
            stage.cluster.gone(Run(1));
            assert!(!stage.records()[&record_key(APP)].contains("\"run\":1,"));
        }
    });
}

#[test]
fn what_is_said_twice_is_done_once() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let mut client = one.connect();
        let (seq, socket) = one.connection().await;
        one.answer(seq, true);
        heard(&one).await;
        let stage = stage.reborn().await;
        // God died before he took it away.
        one.answer(seq, true);
        heard(&one).await;
        serve(socket, &mut client);
        let mut more: Vec<TcpStream> = (0..2).map(|_| two.connect()).collect();
        one.reassure().await;
        two.reassure().await;
        serve(one.accept().await, &mut more[0]);
        serve(two.accept().await, &mut more[1]);
        heard(&one).await;
        // The first was counted under the God before, who wrote that down nowhere.
        assert_eq!(stage.cluster.connections(Run(1)), 1);
    });
}

#[test]
fn no_file_overtakes_the_question_whatever_is_acknowledged_again() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut clients = [one.connect(), one.connect()];
        let (seq, first) = one.connection().await;
        one.answer(seq, true);
        serve(first, &mut clients[0]);
        serve(one.accept().await, &mut clients[1]);
        heard(&one).await;
        let stage = stage.reborn().await;
        let mut late = one.connect();
        quiet().await;
        one.answer(seq, true);
        one.say(&json!({"cmd": "NODE_HANDLE_NACK"}));
        heard(&one).await;
        let question = one.next().await.unwrap();
        assert_eq!(question["msg"]["key"], "");
        one.files.borrow_mut().clear();
        quiet().await;
        assert!(one.has_nothing(), "the connection waits for the answer");
        one.answer(question["msg"]["seq"].as_u64().unwrap(), false);
        serve(one.accept().await, &mut late);
        heard(&one).await;
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn a_channel_with_more_than_fits_loses_none() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let text = "x".repeat(60 << 10);
        stage.cluster.send(Run(1), &json!(text));
        let mut clients: Vec<TcpStream> = (0..4).map(|_| one.connect()).collect();
        quiet().await;
        let remains = stage.die().await;
        let handed = remains.connections.iter().filter(|(_, place)| matches!(place, Place::Handed { .. })).count();
        assert_eq!(handed, 1, "the gate was closed to the others");
        let _stage = remains.recover();
        assert_eq!(one.next().await.unwrap(), json!(text));
        let mut served = vec![one.accept().await];
        one.reassure().await;
        for _ in 1..4 {
            served.push(one.accept().await);
        }
        for client in &mut clients {
            let own = client.local_addr().unwrap();
            let at = served.iter().position(|s| TcpStream::from(s.try_clone().unwrap()).peer_addr().unwrap() == own);
            serve(served.remove(at.unwrap()), client);
        }
        quiet().await;
        assert!(one.has_nothing());
    });
}

#[test]
fn numbers_are_never_used_again_and_stay_exact_in_javascript() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut last = 0;
        let mut stage = stage;
        for _ in 0..5 {
            let _client = one.connect();
            let (seq, _socket) = if last == 0 { one.connection().await } else { after_question(&one).await };
            assert!(seq > last && seq < 1 << 53);
            one.answer(seq, true);
            last = seq;
            heard(&one).await;
            let mut remains = stage.die().await;
            remains.generation += 3;
            stage = remains.recover();
        }
    });
}

async fn after_question(one: &Fake) -> (u64, OwnedFd) {
    one.reassure().await;
    one.connection().await
}
