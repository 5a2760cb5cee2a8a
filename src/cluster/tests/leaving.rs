//! Messages, workers that leave, and which listeners stay open then.

use super::*;

const GRACE: Duration = Duration::from_secs(100);

#[test]
fn messages_pass_both_ways_whatever_their_size() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.worker(1);
        let big = json!({"text": "é\n".repeat(500_000)});
        stage.cluster.send(Run(1), &big);
        stage.cluster.send(Run(1), &json!("shutdown"));
        assert_eq!(one.next().await.unwrap(), big);
        assert_eq!(one.next().await.unwrap(), json!("shutdown"));
        let line = format!("{big}\n\"ready\"\n");
        for piece in line.as_bytes().chunks(50_000) {
            one.write(piece);
            tokio::task::yield_now().await;
            wait_if_full().await;
        }
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: big });
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!("ready") });
    });
}

async fn wait_if_full() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[test]
fn a_file_from_the_worker_is_acknowledged_and_closed() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.worker(1);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let line = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"a\":1}}\n";
        fdpass::send(one.socket.get_ref(), line, Some(std::os::fd::AsFd::as_fd(&writer))).unwrap();
        drop(writer);
        assert_eq!(one.next().await.unwrap(), json!({"cmd": "NODE_HANDLE_ACK"}));
        assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!({"a": 1}) });
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut rest).expect("our copy is closed, so this ends");
    });
}

#[test]
fn unreadable_lines_are_ignored() {
    play(async {
        let mut stage = Stage::new();
        let mut one = stage.worker(1);
        one.write(b"console.log, astray\n\xff\xfe\x00\n{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\"}\n[\n");
        one.write(b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":99,\"accepted\":true}\n{\"cmd\":\"NODE_HANDLE_ACK\"}\n");
        one.write(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"nobody's\"}\n");
        let reply = one.next().await.unwrap();
        assert_eq!(reply["errno"], -libc::EINVAL, "a question without an address gets an answer");
        one.listen(0).await;
        let _client = one.connect();
        one.accept().await;
        assert!(stage.has_no_notice().await);
    });
}

#[test]
fn an_excluded_worker_gets_nothing_but_may_answer() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let _client = one.connect();
        let (seq, _) = one.connection().await;
        stage.cluster.exclude(Run(1));
        let _more: Vec<TcpStream> = (0..3).map(|_| two.connect()).collect();
        for _ in 0..3 {
            two.accept().await;
        }
        assert!(one.has_nothing());
        one.answer(seq, false);
        two.accept().await;
    });
}

#[test]
fn a_drain_asks_for_drained_then_disconnects_and_sends_one_notice() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.listening(1).await;
        one.send(&json!({"cmd": "NODE_PMR", "act": "hello", "version": "v20.0.0"}));
        assert_eq!(stage.notice().await, Notice::NodeVersion { run: Run(1), version: "v20.0.0".into() });
        stage.cluster.drain(Run(1), GRACE);
        assert_eq!(one.next().await.unwrap(), json!({"cmd": "NODE_PMR", "act": "drain"}));
        settle().await;
        assert!(one.has_nothing(), "it gets no request to disconnect before it is drained");
        one.send(&json!({"cmd": "NODE_PMR", "act": "drained"}));
        assert_eq!(one.next().await.unwrap()["act"], "disconnect");
        one.close();
        assert!(stage.has_no_notice().await);
        drop(one);
        let both = [stage.notice().await, stage.notice().await];
        assert!(
            both.contains(&Notice::Drained { run: Run(1) }) && both.contains(&Notice::Disconnected { run: Run(1) })
        );
        stage.cluster.gone(Run(1));
        assert!(stage.has_no_notice().await);
        assert_eq!(stage.cluster.listeners().len(), 1, "what it closed on its way out stays for its successor");
    });
}

#[test]
fn a_drain_ends_after_the_grace_time_or_without_a_notice_when_the_worker_ends() {
    play(async {
        let mut stage = Stage::new();
        let (deaf, doomed) = (stage.listening(1).await, stage.listening(2).await);
        stage.cluster.drain(Run(1), Duration::from_millis(50));
        stage.cluster.drain(Run(2), Duration::from_millis(50));
        assert_eq!(deaf.next().await.unwrap()["act"], "disconnect", "without our preload there is nothing to wait for");
        drop(doomed);
        stage.cluster.gone(Run(2));
        assert_eq!(stage.notice().await, Notice::Drained { run: Run(1) });
        assert!(stage.has_no_notice().await);
        stage.cluster.drain(Run(3), GRACE);
        assert_eq!(stage.notice().await, Notice::Drained { run: Run(3) }, "there is no such worker to wait for");
    });
}

#[test]
fn a_worker_that_disconnects_by_itself_is_answered_and_its_listener_stays() {
    play(async {
        let mut stage = Stage::new();
        let one = stage.listening(1).await;
        one.send(&json!({"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 12}));
        assert_eq!(one.next().await.unwrap()["ack"], 12);
        one.close();
        let at = one.at();
        drop(one);
        assert_eq!(stage.notice().await, Notice::Disconnected { run: Run(1) });
        tokio::time::sleep(Duration::from_millis(1200)).await;
        TcpStream::connect(at).expect("its successor will want it");
    });
}

#[test]
fn a_listener_that_all_workers_closed_is_closed() {
    play(async {
        let stage = Stage::new();
        let (one, two) = (stage.listening(1).await, stage.listening(2).await);
        let at = one.at();
        one.close();
        settle().await;
        let _client = two.connect();
        two.accept().await;
        two.close();
        until("it is closed", || stage.cluster.listeners().is_empty()).await;
        until("it is refused", || TcpStream::connect(at).is_err()).await;
    });
}

#[test]
fn a_worker_that_closes_and_listens_again_gets_the_same_listener() {
    play(async {
        let stage = Stage::new();
        let mut one = stage.worker(1);
        let port = crate::os::ports::free_port();
        for _ in 0..3 {
            let reply = one.query(json!({ "port": port })).await;
            assert_eq!(reply["errno"], Value::Null);
            one.key = reply["key"].as_str().unwrap().to_owned();
            one.close();
        }
        let reply = one.query(json!({ "port": port, "index": 3 })).await;
        assert_eq!(reply["key"], one.key);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(stage.cluster.listeners().len(), 1);
    });
}

#[test]
fn a_worker_that_closes_and_dies_leaves_the_listener_open() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let at = one.at();
        one.close();
        settle().await;
        drop(one);
        stage.cluster.gone(Run(1));
        tokio::time::sleep(Duration::from_millis(1200)).await;
        TcpStream::connect(at).expect("its replacement will want it");
    });
}

#[test]
fn closing_the_cluster_closes_listeners_and_removes_socket_files() {
    play(async {
        let stage = Stage::new();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let one = stage.worker(1);
        let reply = one.query(json!({"address": path, "port": -1, "addressType": -1, "writableAll": true})).await;
        assert_eq!((&reply["errno"], &reply["sockname"]), (&Value::Null, &Value::Null));
        assert_eq!(stage.cluster.listeners()[0].address, path.to_str().unwrap());
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        stage.cluster.close();
        settle().await;
        assert!(!path.exists());
        assert!(stage.cluster.listeners().is_empty());
    });
}
