//! The time that connections have waited goes on after the death of God.

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::*;
use crate::cluster::waiting::read_to_end;
use crate::os::clock;
use crate::spec::Shed;

const TIMEOUT: Duration = Duration::from_secs(1);

fn limit(stage: &mut Stage) {
    stage.queue = QueueRule { timeout: Some(TIMEOUT), shed: Shed::Answer, ..QueueRule::default() };
    stage.cluster.set_options(ClusterOptions {
        balance: stage.balance,
        queue: stage.queue,
        ..ClusterOptions::default()
    });
}

/// Restarts God each tenth of the timeout until the client is answered.
async fn restart_gods_until_answered(mut stage: Stage, client: impl Read + Send + 'static) {
    let start = std::time::Instant::now();
    let client = tokio::task::spawn_local(read_to_end(client));
    while !client.is_finished() {
        tokio::time::sleep(TIMEOUT / 10).await;
        stage = stage.restart_god().await;
    }
    assert!(client.await.unwrap().starts_with("HTTP/1.1 503 ") && start.elapsed() >= TIMEOUT - TIMEOUT / 10);
}

#[test]
fn the_time_of_a_connection_that_waits_in_god_goes_on() {
    play(async {
        for at_path in [false, true] {
            let mut stage = Stage::new();
            limit(&mut stage);
            let (folder, one) = (tempfile::tempdir().unwrap(), stage.worker(1));
            let path = folder.path().join("x.sock");
            let request = match at_path {
                true => json!({ "address": path, "port": -1, "addressType": -1 }),
                false => json!({}),
            };
            let reply = one.query(request).await;
            assert_eq!(reply["errno"], Value::Null, "{reply}");
            stage.cluster.exclude(Run(1));
            if at_path {
                restart_gods_until_answered(stage, UnixStream::connect(&path).unwrap()).await;
            } else {
                let port = u16::try_from(reply["sockname"]["port"].as_u64().unwrap()).unwrap();
                restart_gods_until_answered(stage, TcpStream::connect(("127.0.0.1", port)).unwrap()).await;
            }
        }
    });
}

#[test]
fn the_time_of_a_connection_that_was_handed_over_goes_on() {
    play(async {
        let stage = Stage::new();
        let one = stage.listening(1).await;
        let _client = one.connect();
        let _theirs = one.connection().await;
        let since = |stage: &Stage| {
            let state = stage.cluster.state.borrow();
            state.members[&Run(1)].pending[0].1.socket.since()
        };
        let came = since(&stage);
        tokio::time::sleep(TIMEOUT / 5).await;
        let stage = stage.restart_god().await;
        assert!(since(&stage) < came + 100, "{} is much later than {came}", since(&stage));
        assert!(clock::monotonic_ms() >= came + 200);
    });
}

#[test]
fn the_time_of_a_connection_that_waits_at_a_shared_socket_goes_on() {
    play(async {
        let mut stage = Stage::with(Balance::Shared);
        limit(&mut stage);
        let one = stage.worker(1);
        let reply = one.query(json!({})).await;
        let theirs = one.files.borrow_mut().pop_front().expect("a socket");
        let at = std::net::TcpListener::from(theirs);
        assert_eq!(reply["errno"], Value::Null, "{reply}");
        let mut served = TcpStream::connect(at.local_addr().unwrap()).unwrap();
        tokio::time::sleep(TIMEOUT / 20).await;
        served.set_nonblocking(true).unwrap();
        let nothing = served.read(&mut [0; 1]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "a worker serves");
        until("accepted", || at.accept().is_ok()).await;
        stage.cluster.gone(Run(1));
        restart_gods_until_answered(stage, TcpStream::connect(at.local_addr().unwrap()).unwrap()).await;
    });
}
