//! God dies between listening, leaving and closing, and the next one goes on.

use super::*;

const GRACE: Duration = Duration::from_secs(100);

fn hello() -> Value {
    json!({"cmd": "NODE_PMR", "act": "hello", "version": "v20.0.0"})
}

fn drained() -> Value {
    json!({"cmd": "NODE_PMR", "act": "drained"})
}

#[test]
fn a_question_is_answered_by_the_next_and_only_answered_again() {
    play(async {
        let stage = Stage::new();
        let mut one = stage.worker(1);
        one.ask(&json!({}));
        let stage = stage.reborn().await;
        let first = one.next().await.unwrap();
        assert_eq!(first["errno"], Value::Null);
        let stage = stage.reborn().await;
        one.seq.set(0);
        let again = one.query(json!({})).await;
        assert_eq!((&again["key"], &again["ack"]), (&first["key"], &first["ack"]), "the same question");
        let stage = stage.reborn().await;
        assert_eq!(stage.cluster.listeners()[0].workers, 1);
        one.key = first["key"].as_str().unwrap().to_owned();
        one.port = first["sockname"]["port"].as_u64().unwrap() as u16;
        let _client = one.connect();
        one.reassure().await;
        one.accept().await;
        let mut two = stage.worker(2);
        two.listen(0).await;
        assert_eq!(two.key, one.key, "a newcomer finds the old listener");
    });
}

#[test]
fn a_listener_that_was_opened_and_promised_to_nobody_is_the_one() {
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
fn half_a_line_is_completed_under_the_next() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.worker(1);
        one.write(b"{\"whole\":1}\n{\"half\":");
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"whole": 1}) });
        quiet().await;
        let mut stage = stage.reborn().await;
        quiet().await;
        one.write(b"2}\n");
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"half": 2}) });
        one.write(b"{\"never ended");
        drop(one);
        assert_eq!(stage.notice().await, Notice::Disconnected { run: Run(1) });
    });
}

#[test]
fn what_still_matters_is_told_again() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        one.say(&hello());
        one.say(&json!({"cmd": "NODE_CLUSTER", "act": "listening", "address": "::1", "port": 80, "addressType": 6}));
        one.say(&json!("ready"));
        quiet().await;
        let mut stage = stage.reborn().await;
        let told = [stage.notice().await, stage.notice().await, stage.notice().await];
        assert!(told.contains(&Notice::NodeVersion { run: Run(1), version: "v20.0.0".into() }));
        assert!(told.contains(&Notice::Listening { run: Run(1), address: "[::1]:80".into(), accepts: true }));
        assert!(told.contains(&Notice::Message { run: Run(1), data: json!("ready") }));
        assert!(stage.told_nothing().await);
    });
}

#[test]
fn each_step_of_a_drain_is_taken_once_over_three_deaths() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        one.say(&hello());
        quiet().await;
        stage.cluster.drain(Run(1), GRACE);
        assert_eq!(one.next().await.unwrap()["act"], "drain");
        quiet().await;
        let stage = stage.reborn().await;
        stage.cluster.drain(Run(1), GRACE);
        quiet().await;
        assert!(one.has_nothing(), "it was asked already");
        one.say(&drained());
        let stage = stage.reborn().await;
        stage.cluster.drain(Run(1), GRACE);
        assert_eq!(one.next().await.unwrap()["act"], "disconnect");
        one.close();
        let mut stage = stage.reborn().await;
        stage.cluster.drain(Run(1), GRACE);
        one.reassure().await;
        quiet().await;
        assert!(one.has_nothing(), "it was told already");
        drop(one);
        let mut told = Vec::new();
        while told.len() < 3 {
            told.push(stage.notice().await);
        }
        for notice in [Notice::Drained { run: Run(1) }, Notice::Disconnected { run: Run(1) }] {
            assert!(told.contains(&notice), "{told:?}");
        }
        stage.cluster.gone(Run(1));
        assert!(stage.told_nothing().await);
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn a_disconnect_noted_and_never_said_is_said() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let mut remains = stage.die().await;
        remains.edit(|record| record["members"][0]["asked_to_disconnect"] = json!(true));
        let stage = remains.recover();
        stage.cluster.drain(Run(1), GRACE);
        one.reassure().await;
        assert_eq!(one.next().await.unwrap()["act"], "disconnect");
        quiet().await;
        assert!(one.has_nothing());
    });
}

#[test]
fn an_excluded_worker_stays_excluded() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        stage.cluster.exclude(Run(1));
        let stage = stage.reborn().await;
        two.connect();
        two.reassure().await;
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
fn one_that_leaves_is_answered_by_whoever_is_there() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let leaving = json!({"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 12});
        one.say(&leaving);
        let stage = stage.reborn().await;
        assert_eq!(one.next().await.unwrap()["ack"], 12);
        let stage = stage.reborn().await;
        one.say(&leaving);
        assert_eq!(one.next().await.unwrap()["ack"], 12, "Node ignores it the second time");
        one.close();
        one.close();
        drop(one);
        quiet().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn second_thoughts_go_on() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let at = one.at();
        one.close();
        quiet().await;
        let stage = stage.reborn().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
        until("it is closed", || stage.cluster.listeners().is_empty()).await;
        until("it is refused", || TcpStream::connect(at).is_err()).await;
        assert!(!stage.records().keys().any(|key| key.starts_with("fd/listen/")), "released");
    });
}

#[test]
fn what_was_forsaken_long_before_the_death_is_closed_after_it() {
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
        quiet().await;
        assert_eq!(stage.cluster.listeners().len(), 1);
        two.connect();
        two.reassure().await;
        two.accept().await;
    });
}

#[test]
fn shared_sockets_and_their_files_stay() {
    play(async {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("app.sock"), dir.path().join("aside"));
        for balance in [Balance::Shared, Balance::RoundRobin] {
            let stage = Stage::with(balance);
            let one = stage.worker(1);
            let unix = json!({"address": path, "port": -1, "addressType": -1});
            let udp = json!({"addressType": "udp4", "fd": -1});
            one.query(unix.clone()).await;
            one.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
            one.query(udp.clone()).await;
            one.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
            let before = stage.cluster.listeners();
            heard(&one).await;
            // A God who ends here in the test cleans up; one who is killed does not.
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
            quiet().await;
            assert!(!path.exists());
            drop(stage);
        }
    });
}

#[test]
fn a_connection_by_a_unix_path_is_found_too() {
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
        heard(&one).await;
        std::fs::rename(&path, &aside).unwrap();
        let mut remains = stage.die().await;
        std::fs::rename(&aside, &path).unwrap();
        let (socket, _) = remains.connections.pop().unwrap();
        remains.rest.push(socket);
        let _stage = remains.recover();
        one.reassure().await;
        one.accept().await;
    });
}

#[test]
fn a_workers_own_file_is_acknowledged_once() {
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
        heard(&one).await;
        assert!(one.has_nothing(), "the God before did that");
        for _ in 0..2 {
            one.write(b"{\"a\":1}\n");
            send();
            assert_eq!(one.next().await.unwrap(), json!({"cmd": "NODE_HANDLE_ACK"}));
            heard(&one).await;
        }
    });
}

#[test]
fn what_is_closed_is_released_first() {
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
        quiet().await;
        let records = ledger::read(persistence.ledger.file().unwrap()).unwrap();
        assert!(!records.keys().any(|key| key.starts_with("fd/") || key.starts_with("cluster/")), "{records:?}");
    });
}

#[test]
fn a_record_of_this_version_is_understood_for_ever() {
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
fn the_next_asks_anew_how_many_connections_are_open() {
    play(async {
        let count = json!({"cmd": "NODE_PMR", "act": "count"});
        let stage = Stage::with(Balance::Least);
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        for worker in [&one, &two] {
            worker.say(&hello());
            assert_eq!(worker.next().await.unwrap(), count);
        }
        let _stage = stage.reborn().await;
        for (worker, open) in [(&one, 5), (&two, 2)] {
            assert_eq!(worker.next().await.unwrap(), count);
            worker.say(&json!({"cmd": "NODE_PMR", "act": "open", "count": open}));
        }
        quiet().await;
        let clients: Vec<TcpStream> = (0..3).map(|_| one.connect()).collect();
        two.reassure().await;
        for _ in &clients {
            two.accept().await;
        }
        quiet().await;
        assert!(one.has_nothing(), "two had two, and has five by now");
        let _next = one.connect();
        one.reassure().await;
        one.accept().await;
    });
}
