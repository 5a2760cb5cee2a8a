//! God dies while workers listen, leave or close, and the next God goes on.

use super::*;

const GRACE: Duration = Duration::from_secs(100);

fn hello() -> Value {
    json!({"cmd": "NODE_PMR", "act": "hello", "version": "v20.0.0"})
}

fn drained() -> Value {
    json!({"cmd": "NODE_PMR", "act": "drained"})
}

#[test]
fn a_listen_request_that_is_read_twice_gets_the_same_answer() {
    play(async {
        let stage = Stage::new();
        let mut one = stage.worker(1);
        one.request_listen(&json!({}));
        let stage = stage.restart_god().await;
        let first = one.next().await.unwrap();
        assert_eq!(first["errno"], Value::Null);
        let stage = stage.restart_god().await;
        one.seq.set(0);
        let again = one.query(json!({})).await;
        assert_eq!((&again["key"], &again["ack"]), (&first["key"], &first["ack"]), "the same question");
        let stage = stage.restart_god().await;
        assert_eq!(stage.cluster.listeners()[0].workers, 1);
        one.key = first["key"].as_str().unwrap().to_owned();
        one.port = first["sockname"]["port"].as_u64().unwrap() as u16;
        let _client = one.connect();
        one.refuse_sync().await;
        one.accept().await;
        let mut two = stage.worker(2);
        two.listen(0).await;
        assert_eq!(two.key, one.key, "a newcomer finds the old listener");
    });
}

#[test]
fn a_listener_whose_holders_were_not_saved_serves_the_repeated_request() {
    play(async {
        let stage = Stage::new();
        let mut one = stage.listening(1).await;
        let at = one.at();
        let client = one.connect();
        one.connection().await;
        let mut remains = stage.die().await;
        remains.edit(|record| record["listeners"][0]["holders"] = json!([]));
        remains.connections.clear();
        drop(client);
        let _stage = remains.recover();
        one.seq.set(0);
        one.listen(0).await;
        assert_eq!(one.at(), at);
    });
}

#[test]
fn half_a_line_is_completed_after_the_death_of_god() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.worker(1);
        one.write(b"{\"whole\":1}\n{\"half\":");
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"whole": 1}) });
        settle().await;
        let mut stage = stage.restart_god().await;
        settle().await;
        one.write(b"2}\n");
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"half": 2}) });
        one.write(b"{\"never ended");
        drop(one);
        assert_eq!(stage.notice().await, Notice::Disconnected { run: Run(1) });
    });
}

#[test]
fn notices_that_may_be_unhandled_are_sent_again() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        one.send(&hello());
        one.send(&json!({"cmd": "NODE_CLUSTER", "act": "listening", "address": "::1", "port": 80, "addressType": 6}));
        one.send(&json!("ready"));
        settle().await;
        let mut stage = stage.restart_god().await;
        let received = [stage.notice().await, stage.notice().await, stage.notice().await];
        assert!(received.contains(&Notice::NodeVersion { run: Run(1), version: "v20.0.0".into() }));
        assert!(received.contains(&Notice::Listening { run: Run(1), address: "[::1]:80".into(), accepts: true }));
        assert!(received.contains(&Notice::Message { run: Run(1), data: json!("ready") }));
        assert!(stage.has_no_notice().await);
    });
}

#[test]
fn each_step_of_a_drain_is_taken_once_though_god_dies_between_them() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        one.send(&hello());
        settle().await;
        stage.cluster.drain(Run(1), GRACE);
        assert_eq!(one.next().await.unwrap()["act"], "drain");
        settle().await;
        let stage = stage.restart_god().await;
        stage.cluster.drain(Run(1), GRACE);
        settle().await;
        assert!(one.has_nothing(), "it has the request to drain already");
        one.send(&drained());
        let stage = stage.restart_god().await;
        stage.cluster.drain(Run(1), GRACE);
        assert_eq!(one.next().await.unwrap()["act"], "disconnect");
        one.close();
        let mut stage = stage.restart_god().await;
        stage.cluster.drain(Run(1), GRACE);
        one.refuse_sync().await;
        settle().await;
        assert!(one.has_nothing(), "it has the request to disconnect already");
        drop(one);
        let mut received = Vec::new();
        while received.len() < 3 {
            received.push(stage.notice().await);
        }
        for notice in [Notice::Drained { run: Run(1) }, Notice::Disconnected { run: Run(1) }] {
            assert!(received.contains(&notice), "{received:?}");
        }
        stage.cluster.gone(Run(1));
        assert!(stage.has_no_notice().await);
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn a_disconnect_that_was_saved_but_not_sent_is_sent() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut remains = stage.die().await;
        remains.edit(|record| record["members"][0]["asked_to_disconnect"] = json!(true));
        let stage = remains.recover();
        stage.cluster.drain(Run(1), GRACE);
        one.refuse_sync().await;
        assert_eq!(one.next().await.unwrap()["act"], "disconnect");
        settle().await;
        assert!(one.has_nothing());
    });
}

#[test]
fn an_excluded_worker_stays_excluded() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        stage.cluster.exclude(Run(1));
        let stage = stage.restart_god().await;
        two.connect();
        two.refuse_sync().await;
        two.accept().await;
        for _ in 0..3 {
            two.connect();
            two.accept().await;
        }
        assert!(one.has_nothing());
        drop(stage);
    });
}

#[test]
fn a_worker_that_disconnects_is_answered_by_the_next_god() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let leaving = json!({"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 12});
        one.send(&leaving);
        let stage = stage.restart_god().await;
        assert_eq!(one.next().await.unwrap()["ack"], 12);
        let stage = stage.restart_god().await;
        one.send(&leaving);
        assert_eq!(one.next().await.unwrap()["ack"], 12, "Node ignores it the second time");
        one.close();
        one.close();
        drop(one);
        settle().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn the_time_of_a_listener_that_its_worker_closed_goes_on_after_the_death_of_god() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let at = one.at();
        one.close();
        settle().await;
        let stage = stage.restart_god().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
        until("it is closed", || stage.cluster.listeners().is_empty()).await;
        until("it is refused", || TcpStream::connect(at).is_err()).await;
        assert!(!stage.records().keys().any(|key| key.starts_with("fd/listen/")), "released");
    });
}

#[test]
fn a_listener_that_was_long_vacant_is_closed_by_the_next_god() {
    play(async {
        let stage = Stage::new();
        let old = stage.listening(1).await;
        let mut two = stage.worker(2);
        two.listen(1).await;
        drop(old);
        stage.cluster.gone(Run(1));
        let mut remains = stage.die().await;
        remains.edit(|record| {
            let vacant = &mut record["listeners"][0]["vacant"]["since"];
            *vacant = json!(vacant.as_u64().unwrap().saturating_sub(31_000));
        });
        let stage = remains.recover();
        settle().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
        two.connect();
        two.refuse_sync().await;
        two.accept().await;
    });
}

#[test]
fn shared_sockets_and_socket_files_outlive_god() {
    play(async {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("app.sock"), dir.path().join("aside"));
        for balance in [Balance::Shared, Balance::RoundRobin] {
            let stage = Stage::with(balance);
            let one = stage.worker(1);
            let unix = json!({"address": path, "port": -1, "addressType": -1});
            let udp = json!({"addressType": "udp4", "fd": -1});
            one.query(unix.clone()).await;
            one.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
            one.query(udp.clone()).await;
            one.send(&json!({"cmd": "NODE_HANDLE_ACK"}));
            let before = stage.cluster.listeners();
            wait_until_read(&one).await;
            // In the test the dying God runs its destructors and removes the file. A killed one does not.
            std::fs::rename(&path, &aside).unwrap();
            let remains = stage.die().await;
            std::fs::rename(&aside, &path).unwrap();
            let stage = remains.recover();
            assert_eq!(stage.cluster.listeners(), before);
            let two = stage.worker(2);
            assert_eq!(two.query(unix).await["errno"], Value::Null);
            two.query(udp).await;
            assert_eq!(stage.cluster.listeners().len(), 2, "they are the same");
            let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            stage.cluster.close();
            settle().await;
            assert!(!path.exists());
            drop(stage);
        }
    });
}

#[test]
fn an_accepted_connection_of_a_unix_path_is_found_by_its_address() {
    play(async {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("app.sock"), dir.path().join("aside"));
        let stage = Stage::new();
        let mut one = stage.worker(1);
        let reply = one.query(json!({"address": path, "port": -1, "addressType": -1})).await;
        one.key = reply["key"].as_str().unwrap().to_owned();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (seq, _) = one.connection().await;
        one.answer(seq, false);
        wait_until_read(&one).await;
        std::fs::rename(&path, &aside).unwrap();
        let mut remains = stage.die().await;
        std::fs::rename(&aside, &path).unwrap();
        let (socket, _) = remains.connections.pop().unwrap();
        remains.rest.push(socket);
        let _stage = remains.recover();
        one.refuse_sync().await;
        one.accept().await;
    });
}

#[test]
fn a_file_that_a_worker_sends_is_acknowledged_once() {
    play(async {
        let stage = Stage::new();
        let one = stage.worker(1);
        let with_file = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"a\":2}}\n";
        let file = std::fs::File::open("/dev/null").unwrap();
        let send = || fdpass::send(one.socket.get_ref(), with_file, Some(std::os::fd::AsFd::as_fd(&file))).unwrap();
        send();
        let mut remains = stage.die().await;
        remains.edit(|record| record["members"][0]["file_acknowledged"] = json!(true));
        let mut stage = remains.recover();
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"a": 2}) });
        wait_until_read(&one).await;
        assert!(one.has_nothing(), "the previous God acknowledged it");
        for _ in 0..2 {
            one.write(b"{\"a\":1}\n");
            send();
            assert_eq!(one.next().await.unwrap(), json!({"cmd": "NODE_HANDLE_ACK"}));
            wait_until_read(&one).await;
        }
    });
}

#[test]
fn closed_files_are_released_from_the_ledger() {
    play(async {
        let stage = Stage::new();
        let (one, _two) = (stage.listening(1).await, stage.listening(2).await);
        let kept = |stage: &Stage| stage.records().keys().filter(|key| key.starts_with("fd/")).count();
        assert_eq!(kept(&stage), 3);
        drop(one);
        stage.cluster.gone(Run(1));
        assert_eq!(kept(&stage), 2);
        stage.cluster.close();
        assert_eq!(kept(&stage), 1);
        let Stage { cluster, persistence, .. } = stage;
        drop(cluster);
        settle().await;
        let records = ledger::read(persistence.ledger.file().unwrap()).unwrap();
        assert!(!records.keys().any(|key| key.starts_with("fd/") || key.starts_with("cluster/")), "{records:?}");
    });
}

#[test]
fn a_record_of_this_version_can_be_read() {
    let text = include_str!("../../../tests/compat/cluster.json");
    let record: super::super::dealt::record::Record = serde_json::from_str(text).unwrap();
    assert_eq!((record.next_listener, record.listeners.len(), record.members.len()), (3, 3, 2));
    let dealt = &record.listeners[0];
    assert_eq!(dealt.address.to_string(), "127.0.0.1:3000");
    assert_eq!((dealt.holders[0].run, dealt.holders[0].request), (Run(4), 2));
    assert_eq!(dealt.data.as_ref().unwrap().get(), r#"{"ticketKeys":"ab"}"#);
    assert!(record.listeners[1].file.is_some() && record.listeners[1].vacant.is_some());
    let member = &record.members[0];
    assert!(
        member.takes_connections && member.excluded && member.drained && member.asked_to_disconnect && member.ready
    );
    assert_eq!((member.connections, member.listening.len()), (17, 1));
    let sparse: super::super::dealt::record::Record =
        serde_json::from_str(r#"{"members":[{"run":9}],"later":1}"#).unwrap();
    assert_eq!(sparse.members[0].run, Run(9));
}

#[test]
fn the_next_god_requests_open_counts_again() {
    play(async {
        let count = json!({"cmd": "NODE_PMR", "act": "count"});
        let stage = Stage::with(Balance::Least);
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        for worker in [&one, &two] {
            worker.send(&hello());
            assert_eq!(worker.next().await.unwrap(), count);
        }
        let _stage = stage.restart_god().await;
        for (worker, open) in [(&one, 5), (&two, 2)] {
            assert_eq!(worker.next().await.unwrap(), count);
            worker.send(&json!({"cmd": "NODE_PMR", "act": "open", "count": open}));
        }
        settle().await;
        let clients: Vec<TcpStream> = (0..3).map(|_| one.connect()).collect();
        two.refuse_sync().await;
        for _ in &clients {
            two.accept().await;
        }
        settle().await;
        assert!(one.has_nothing(), "two had two, and has five by now");
        let _next = one.connect();
        one.refuse_sync().await;
        one.accept().await;
    });
}
