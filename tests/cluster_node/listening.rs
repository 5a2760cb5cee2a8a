//! All forms of `listen`, and which worker gets which connection.

use super::*;

#[test]
fn idle_workers_get_equally_many_new_connections() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let runs = app.spawn_listening(4).await;
        let mut served: HashMap<String, u32> = HashMap::new();
        for _ in 0..42 {
            *served.entry(app.get().await).or_default() += 1;
        }
        let (most, least) = (served.values().max().unwrap(), served.values().min().unwrap());
        assert!(served.len() == 4 && most - least <= 1, "{served:?}");
        // The worker's answer that it took the last connection may still be in flight.
        while runs.iter().map(|run| app.cluster.connections(*run)).sum::<u64>() < 42 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_killed_workers_waiting_connection_is_served_by_another() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let blocked = app.spawn_listening(1).await[0];
        let at = app.at(0);
        let mut blocker = TcpStream::connect(at).await.unwrap();
        blocker.write_all(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(app.message(blocked).await, "blocked");
        // These requests wait in the blocked worker's channel or in the kernel.
        let requests: Vec<_> = (0..20).map(|_| tokio::task::spawn_local(get(at, "/"))).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let other = app.spawn_listening(1).await[0];
        app.kill(blocked);
        let pid = app.workers[&other].id().to_string();
        for request in requests {
            assert_eq!(request.await.unwrap(), pid);
        }
    });
}

#[test]
fn connections_wait_without_loss_while_all_workers_are_full() {
    play(async {
        let mut app = App::new("web.cjs", &["one"]);
        app.spawn_listening(2).await;
        let at = app.at(0);
        let requests: Vec<_> = (0..6).map(|_| tokio::task::spawn_local(get(at, "/slow"))).collect();
        for request in requests {
            assert!(!request.await.unwrap().is_empty());
        }
    });
}

#[test]
fn every_form_of_listen_does_what_node_does() {
    play(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port().to_string();
        let mut app = App::new("forms.cjs", &[path.to_str().unwrap(), &taken]);
        let mut reports = Vec::new();
        for _ in 0..2 {
            let run = app.spawn();
            reports.push(app.message(run).await);
        }
        for way in ["any", "anyAgain", "v4", "v6only", "name", "path"] {
            assert!(reports[0][way].get("code").is_none());
            assert_eq!(reports[0][way], reports[1][way], "{way}: the same for both workers");
        }
        assert_ne!(reports[0]["any"]["port"], reports[0]["anyAgain"]["port"]);
        assert_ne!(reports[0]["exclusive"]["port"], reports[1]["exclusive"]["port"]);
        assert_eq!(reports[0]["path"], path.to_str().unwrap());
        for report in &reports {
            assert_eq!((&report["taken"], &report["fd"]), (&Value::from("EADDRINUSE"), &Value::from("EINVAL")));
        }
        let port = reports[0]["anyAgain"]["port"].as_u64().unwrap() as u16;
        assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/").await, "anyAgain");
        let mut raw = String::new();
        tokio::net::UnixStream::connect(&path).await.unwrap().read_to_string(&mut raw).await.unwrap();
        assert_eq!(raw, "raw");
    });
}

#[test]
fn datagrams_reach_workers_through_a_shared_socket() {
    play(async {
        let mut app = App::new("udp.cjs", &[]);
        let mut runs = app.spawn_listening(2).await;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for round in 0..2 {
            socket.send_to(b"hello", app.at(0)).await.unwrap();
            let mut buffer = [0; 64];
            let count = tokio::time::timeout(TIME_LIMIT, socket.recv(&mut buffer)).await.expect("no answer").unwrap();
            assert!(buffer[..count].ends_with(b" hello"));
            if round == 0 {
                app.replace(&mut runs, Duration::from_secs(100)).await;
            }
        }
    });
}

#[test]
fn a_shared_handle_serves_and_survives_replacement() {
    play(async {
        let mut app = App::with(Balance::Shared, "web.cjs", &[]);
        let mut runs = app.spawn_listening(2).await;
        assert_eq!(app.cluster.listeners()[0].mechanism, "shared handle");
        let load = Load::on(app.at(0), "keep");
        for _ in 0..2 {
            app.replace(&mut runs, Duration::from_secs(100)).await;
        }
        let result = load.finish().await;
        assert_eq!(result["failed"], 0, "{result}");
    });
}

#[test]
fn tls_sessions_are_resumed_by_any_worker() {
    play(async {
        let mut app = App::new("tls.cjs", &[]);
        app.spawn_listening(3).await;
        let result = client("tls-client.cjs", &[&app.at(0).port().to_string()]).await;
        assert_eq!(result, serde_json::json!({"resumed": 6, "workers": 3}));
    });
}

/// A connection that stays open after one answer, and the pid of the worker that has it.
async fn stay(at: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    loop {
        if let Some(body) = whole_body(&answer) {
            return (stream, body.to_owned());
        }
        let mut part = [0; 1024];
        let count = stream.read(&mut part).await.unwrap();
        assert!(count > 0, "hung up on: {answer}");
        answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
}

fn whole_body(answer: &str) -> Option<&str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    (length.parse() == Ok(body.len())).then_some(body)
}

#[test]
fn the_worker_with_the_fewest_open_connections_is_next() {
    play(async {
        let mut app = App::with(Balance::Least, "web.cjs", &["patient"]);
        app.spawn_listening(2).await;
        let at = app.at(0);
        let mut held: HashMap<String, Vec<TcpStream>> = HashMap::new();
        for _ in 0..6 {
            let (stream, pid) = stay(at).await;
            held.entry(pid).or_default().push(stream);
        }
        let counts: Vec<usize> = held.values().map(Vec::len).collect();
        assert_eq!(counts, [3, 3]);
        let left = held.keys().next().unwrap().clone();
        held.remove(&left);
        // As soon as the worker has reported that, all connections go to it. In turn, every second one would.
        let mut in_a_row = 0;
        while in_a_row < 4 {
            let (_stream, pid) = stay(at).await;
            in_a_row = if pid == left { in_a_row + 1 } else { 0 };
        }
    });
}

#[test]
fn no_worker_has_more_connections_than_max_connections() {
    play(async {
        let mut app = App::new("web.cjs", &["patient"]);
        let queue = QueueRule { max_connections: Some(1), ..QueueRule::default() };
        app.cluster.set_options(ClusterOptions { queue, ..ClusterOptions::default() });
        app.spawn_listening(2).await;
        let at = app.at(0);
        let (one, first) = stay(at).await;
        let (_two, second) = stay(at).await;
        assert_ne!(first, second);
        let third = tokio::task::spawn_local(async move { stay(at).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!third.is_finished(), "both have as many as they may");
        drop(one);
        let (_third, pid) = tokio::time::timeout(TIME_LIMIT, third).await.unwrap().unwrap();
        assert_eq!(pid, first, "the worker with room takes it");
    });
}
