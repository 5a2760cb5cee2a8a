//! The web server on a listener of its own.

use std::io::{Read, Write};
use std::net::TcpStream as Client;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;

/// Longer than any test takes; a test that waits this long hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn run_local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(LIMIT, test).await.expect("the test hung") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A server that runs.
struct Served {
    at: String,
    finish: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start() -> Served {
        let listener = worker::listener("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let (finish, finishing) = oneshot::channel();
        let server = tokio::task::spawn_local(async move {
            let settings = Settings { port: 0, instance: "5".to_owned() };
            serve(listener, &settings, async { drop(finishing.await) }).await;
        });
        Served { at, finish, server }
    }

    fn connect(&self) -> Client {
        let client = Client::connect(&self.at).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client
    }
}

/// Sends a request from another thread, because the server runs on this one. Returns head and body of the response.
async fn request(mut client: Client) -> (Client, String) {
    let asked = tokio::task::spawn_blocking(move || {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"}") {
            client.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        (client, String::from_utf8(text).unwrap())
    });
    asked.await.unwrap()
}

/// True if the server has closed the connection without another byte.
async fn is_at_end(mut client: Client) -> bool {
    tokio::task::spawn_blocking(move || client.read(&mut [0]).unwrap() == 0).await.unwrap()
}

#[test]
fn the_worker_serves_and_keeps_connections() {
    run_local(async {
        let served = Served::start().await;
        let (client, first) = request(served.connect()).await;
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        assert!(!first.contains("connection: close"), "{first}");
        let body: Value = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body, json!({"pid": std::process::id(), "instance": "5"}));
        assert!(request(client).await.1.starts_with("HTTP/1.1 200 OK"), "the connection is kept");
    });
}

#[test]
fn a_draining_worker_ends_each_connection_with_its_next_response() {
    run_local(async {
        let served = Served::start().await;
        let (client, _) = request(served.connect()).await;
        served.finish.send(()).unwrap();
        tokio::task::yield_now().await;
        let (client, response) = request(client).await;
        assert!(response.contains("connection: close"), "{response}");
        assert!(is_at_end(client).await);
        served.server.await.unwrap();
    });
}

#[test]
fn a_draining_worker_ends_an_idle_connection_at_its_time_limit() {
    run_local(async {
        let served = Served::start().await;
        let (idle, _) = request(served.connect()).await;
        let since = tokio::time::Instant::now();
        served.finish.send(()).unwrap();
        served.server.await.unwrap();
        assert!(since.elapsed() > IDLE / 2, "it had its time: {:?}", since.elapsed());
        assert!(is_at_end(idle).await);
    });
}
