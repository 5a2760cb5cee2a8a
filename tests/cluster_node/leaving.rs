//! Messages, and workers that leave without loss.

use serde_json::json;

use super::*;

const GRACE: Duration = Duration::from_secs(100);

/// Reloads three times under load. No request may fail, and workers of several generations must have served.
async fn reload_under(kind: &'static str, app: &str) {
    let mut app = App::new(app, &[]);
    let mut runs = app.spawn_listening(2).await;
    let load = Load::on(app.at(0), kind);
    app.all_are_served(&runs).await;
    for _ in 0..3 {
        app.replace(&mut runs, GRACE).await;
        app.all_are_served(&runs).await;
    }
    let result = load.finish().await;
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["workers"].as_object().unwrap().len() >= 4, "{result}");
}

#[test]
fn reloads_lose_no_request_on_keep_alive_connections() {
    play(reload_under("keep", "web.cjs"));
}

#[test]
fn reloads_lose_no_request_on_new_connections() {
    play(reload_under("new", "web.cjs"));
}

#[test]
fn reloads_lose_no_request_over_http2() {
    play(reload_under("h2", "h2.cjs"));
}

#[test]
fn a_request_in_progress_is_finished_with_connection_close() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let run = app.spawn_listening(1).await[0];
        let mut stream = TcpStream::connect(app.at(0)).await.unwrap();
        stream.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(app.message(run).await, "held");
        app.cluster.drain(run, GRACE);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Connection: close"), "{answer}");
        app.wait_for(Notice::Drained { run }).await;
    });
}

/// RFC 9112, 9.3.2: the worker answers the requests that it has begun, the last of them with `Connection: close`.
/// Requests that the client sends after those must not reset the connection before it has read the answers.
#[test]
fn pipelined_requests_that_the_worker_has_begun_are_answered() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let run = app.spawn_listening(1).await[0];
        let (mut reader, mut writer) = TcpStream::connect(app.at(0)).await.unwrap().into_split();
        writer.write_all("GET /held HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2).as_bytes()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(app.message(run).await, "held");
        }
        app.cluster.drain(run, GRACE);
        let flood = tokio::task::spawn_local(async move {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 20);
            let request = [head.into_bytes(), vec![b'x'; 1 << 20]].concat();
            for _ in 0..16 {
                writer.write_all(&request).await?;
            }
            std::io::Result::Ok(writer)
        });
        let mut answers = String::new();
        reader.read_to_string(&mut answers).await.expect("the connection is not reset");
        let answers: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).collect();
        let (last, others) = answers.split_last().unwrap();
        assert!(others.iter().all(|answer| answer.starts_with("200") && answer.contains("keep-alive")), "{answers:?}");
        assert!(!others.is_empty() && last.starts_with("200") && last.contains("Connection: close"), "{answers:?}");
        flood.await.unwrap().expect("the worker reads late requests and drops them");
        app.wait_for(Notice::Drained { run }).await;
    });
}

#[test]
fn a_drain_waits_for_raw_connections_until_they_end_or_the_grace_time_is_over() {
    play(async {
        let mut app = App::new("net.cjs", &[]);
        let runs = app.spawn_listening(2).await;
        let mut streams = [TcpStream::connect(app.at(0)).await.unwrap(), TcpStream::connect(app.at(0)).await.unwrap()];
        for stream in &mut streams {
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        }
        // The first connection went to the first worker.
        app.cluster.drain(runs[0], GRACE);
        let begin = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(streams);
        app.wait_for(Notice::Drained { run: runs[0] }).await;
        assert!((Duration::from_millis(200)..GRACE / 2).contains(&begin.elapsed()));
        let _held = TcpStream::connect(app.at(0)).await.unwrap();
        while app.cluster.connections(runs[1]) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begin = std::time::Instant::now();
        app.cluster.drain(runs[1], Duration::from_millis(400));
        app.wait_for(Notice::Drained { run: runs[1] }).await;
        assert!(begin.elapsed() >= Duration::from_millis(400));
    });
}

#[test]
fn messages_pass_both_ways_also_large_ones_and_those_after_handles() {
    play(async {
        let mut app = App::new("messages.cjs", &[]);
        let run = app.spawn();
        assert_eq!(app.message(run).await, "ready");
        for message in [json!("x".repeat(1 << 20)), json!({"a": [1, null, "é"]}), json!(7), json!("shutdown")] {
            app.cluster.send(run, &message);
            assert_eq!(app.message(run).await, message);
        }
        app.cluster.send(run, &json!("handle"));
        assert_eq!(app.message(run).await, json!({"with": "a handle"}));
        assert_eq!(app.message(run).await, "behind it");
    });
}

#[test]
fn a_worker_may_disconnect_by_itself_or_listen_again() {
    play(async {
        let mut app = App::new("leaver.cjs", &[]);
        let runs = app.spawn_listening(3).await;
        for (run, how) in runs.iter().zip(["disconnect", "kill"]) {
            app.cluster.send(*run, &json!(how));
            app.wait_for(Notice::Disconnected { run: *run }).await;
            assert_eq!(app.get().await, "here", "after {how}");
        }
        app.cluster.send(runs[2], &json!("again"));
        while !matches!(app.notice().await, Notice::Listening { .. }) {}
        assert_eq!(get(app.at(app.cluster.listeners().len() - 1), "/").await, "here");
    });
}
