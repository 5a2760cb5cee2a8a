//! The worker against a primary played by the test, line by line over a socket pair.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Client};
use std::os::fd::AsFd;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::*;

/// Longer than anything here takes; what waits that long has hung.
const PATIENCE: Duration = Duration::from_secs(10);

fn play<F: Future<Output = ()>>(story: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let story = async { tokio::time::timeout(PATIENCE, story).await.expect("the story hung") };
    tokio::task::LocalSet::new().block_on(&runtime, story);
}

/// The primary: the other end of the channel, and the listener the worker asks for.
struct Primary {
    socket: AsyncFd<OwnedFd>,
    text: Vec<u8>,
    listener: TcpListener,
    worker: JoinHandle<Result<(), Failure>>,
    offers: u64,
}

impl Primary {
    fn start() -> Primary {
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        let settings = Settings { port: 0, instance: "5".to_owned() };
        Primary {
            socket: fdpass::watch(ours).unwrap(),
            text: Vec::new(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            worker: tokio::task::spawn_local(serve(theirs, settings)),
            offers: 0,
        }
    }

    /// With a worker that listens.
    async fn serving() -> Primary {
        let mut primary = Primary::start();
        let query = primary.query().await;
        let port = primary.port();
        primary.say(&json!({
            "cmd": "NODE_CLUSTER", "ack": query["seq"], "errno": null, "key": "k", "data": null,
            "sockname": {"address": "127.0.0.1", "family": "IPv4", "port": port}, "seq": 0,
        }));
        let listening = primary.hear().await;
        assert_eq!((&listening["act"], &listening["port"]), (&json!("listening"), &json!(port)), "{listening}");
        primary
    }

    async fn query(&mut self) -> Value {
        assert_eq!(self.hear().await["act"], "hello");
        let online = self.hear().await;
        assert_eq!((&online["act"], &online["seq"]), (&json!("online"), &json!(0)));
        let query = self.hear().await;
        assert_eq!(query["act"], "queryServer");
        assert_eq!((&query["address"], &query["port"], &query["index"]), (&json!("127.0.0.1"), &json!(0), &json!(0)));
        query
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn say(&self, line: &Value) {
        self.write(format!("{line}\n").as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        assert_eq!(fdpass::send(self.socket.get_ref(), bytes, None).unwrap(), bytes.len());
    }

    /// The next line; null at the end.
    async fn hear(&mut self) -> Value {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let mut ready = self.socket.readable().await.unwrap();
            let mut buffer = [0; 4096];
            match ready.try_io(|socket| fdpass::receive(socket.get_ref(), &mut buffer)) {
                Ok(Ok((0, _))) => return Value::Null,
                Ok(got) => self.text.extend_from_slice(&buffer[..got.unwrap().0]),
                Err(_) => {}
            }
        }
    }

    /// A client's connection, and the line that offers it to the worker.
    fn connect(&mut self, key: &str) -> (Client, OwnedFd, String) {
        let client = Client::connect(("127.0.0.1", self.port())).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        self.offers += 1;
        let inner = json!({"cmd": "NODE_CLUSTER", "act": "newconn", "key": key, "seq": self.offers});
        let line = json!({"cmd": "NODE_HANDLE", "type": "net.Native", "msg": inner});
        (client, accepted.into(), format!("{line}\n"))
    }

    /// Offers a connection; the worker's answer and the client.
    async fn offer(&mut self, key: &str) -> (bool, Client) {
        let (client, file, line) = self.connect(key);
        fdpass::send(self.socket.get_ref(), line.as_bytes(), Some(file.as_fd())).unwrap();
        (self.answer(self.offers).await, client)
    }

    async fn answer(&mut self, seq: u64) -> bool {
        assert_eq!(self.hear().await["cmd"], "NODE_HANDLE_ACK");
        let answer = self.hear().await;
        assert_eq!(answer["ack"], seq, "{answer}");
        answer["accepted"].as_bool().unwrap()
    }

    async fn ended(mut self) {
        assert_eq!(self.hear().await, Value::Null);
        self.worker.await.unwrap().unwrap();
    }
}

/// Asks on a connection, off this thread, since the worker runs on it. The response's head and body.
async fn ask(mut client: Client) -> (Client, String) {
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
fn it_serves_the_connections_it_is_given() {
    play(async {
        let mut primary = Primary::serving().await;
        let (accepted, client) = primary.offer("k").await;
        assert!(accepted);
        let (client, first) = ask(client).await;
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        assert!(!first.contains("connection: close"), "{first}");
        let body: Value = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body, json!({"pid": std::process::id(), "instance": "5"}));
        assert!(ask(client).await.1.starts_with("HTTP/1.1 200 OK"), "the connection is kept");
    });
}

#[test]
fn a_connection_of_another_listener_is_turned_down() {
    play(async {
        let mut primary = Primary::serving().await;
        let (accepted, _client) = primary.offer("other").await;
        assert!(!accepted);
    });
}

#[test]
fn lines_may_come_in_pieces_and_several_at_once_each_with_its_own_connection() {
    play(async {
        let mut primary = Primary::serving().await;
        let (first, first_file, first_line) = primary.connect("k");
        let (second, second_file, second_line) = primary.connect("k");
        let (start, end) = first_line.split_at(20);
        fdpass::send(primary.socket.get_ref(), start.as_bytes(), Some(first_file.as_fd())).unwrap();
        tokio::task::yield_now().await;
        primary.write(end.as_bytes());
        primary.write(b"\"a message for the app\"\nno JSON at all\n{\"cmd\":\"NODE_LATER\",\"act\":7}\n");
        fdpass::send(primary.socket.get_ref(), second_line.as_bytes(), Some(second_file.as_fd())).unwrap();
        drop((first_file, second_file));
        assert!(primary.answer(1).await);
        assert!(primary.answer(2).await);
        assert!(ask(second).await.1.contains("200 OK"));
        assert!(ask(first).await.1.contains("200 OK"));
    });
}

#[test]
fn a_line_without_its_file_is_told_so() {
    play(async {
        let mut primary = Primary::serving().await;
        primary.say(&json!({"cmd": "NODE_HANDLE", "type": "net.Native", "msg": {}}));
        assert_eq!(primary.hear().await["cmd"], "NODE_HANDLE_NACK");
    });
}

#[test]
fn draining_ends_each_connection_with_its_next_response() {
    play(async {
        let mut primary = Primary::serving().await;
        let (_, busy) = primary.offer("k").await;
        let (busy, _) = ask(busy).await;
        primary.say(&json!({"cmd": "NODE_PMR", "act": "drain"}));
        // One that was on its way to us is served as well. Its answer shows that the drain was heard.
        let (accepted, late) = primary.offer("k").await;
        assert!(accepted);
        for client in [busy, late] {
            let (client, response) = ask(client).await;
            assert!(response.contains("connection: close"), "{response}");
            assert!(is_at_end(client).await);
        }
        assert_eq!(primary.hear().await, json!({"cmd": "NODE_PMR", "act": "drained"}));
        primary.say(&json!({"cmd": "NODE_CLUSTER", "act": "disconnect", "seq": 9}));
        assert_eq!(primary.hear().await["act"], "close");
        primary.ended().await;
    });
}

#[test]
fn an_idle_connection_is_not_cut_by_a_drain_but_ends_in_time() {
    play(async {
        let mut primary = Primary::serving().await;
        let (_, idle) = primary.offer("k").await;
        let (idle, _) = ask(idle).await;
        let since = tokio::time::Instant::now();
        primary.say(&json!({"cmd": "NODE_PMR", "act": "drain"}));
        assert_eq!(primary.hear().await["act"], "drained");
        assert!(since.elapsed() > IDLE / 2, "it had its time: {:?}", since.elapsed());
        assert!(is_at_end(idle).await);
    });
}

#[test]
fn after_disconnect_nothing_new_is_taken_and_the_rest_is_finished() {
    play(async {
        let mut primary = Primary::serving().await;
        let (_, busy) = primary.offer("k").await;
        primary.say(&json!({"cmd": "NODE_CLUSTER", "act": "disconnect", "seq": 1}));
        let close = primary.hear().await;
        assert_eq!((&close["act"], &close["key"]), (&json!("close"), &json!("k")));
        let (accepted, _late) = primary.offer("k").await;
        assert!(!accepted);
        let (_client, response) = ask(busy).await;
        assert!(response.contains("connection: close"), "{response}");
        primary.ended().await;
    });
}

#[test]
fn it_ends_when_the_primary_is_gone() {
    play(async {
        let Primary { socket, worker, .. } = Primary::serving().await;
        drop(socket);
        worker.await.unwrap().unwrap();
    });
}

#[test]
fn a_port_in_use_is_an_error_in_words() {
    play(async {
        let mut primary = Primary::start();
        let query = primary.query().await;
        primary.say(&json!({"cmd": "NODE_CLUSTER", "ack": query["seq"], "errno": -98, "key": "k", "data": null}));
        let failure = primary.worker.await.unwrap().unwrap_err();
        assert!(failure.message.contains("in use"), "{}", failure.message);
    });
}
