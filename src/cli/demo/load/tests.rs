//! Each counter against a server that misbehaves on purpose.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// Longer than any step of these tests takes.
const LIMIT: Duration = Duration::from_secs(60);

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"pid\":7}";
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{\"pid\":7}";

/// A server that handles each connection with `handle`, one thread each.
fn server(handle: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || handle(stream));
        }
    });
    at
}

/// Reads one request; false at the end.
fn request(stream: &mut TcpStream) -> bool {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn answer(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn serve_for_ever(mut stream: TcpStream) {
    while request(&mut stream) {
        answer(&mut stream, WHOLE);
    }
}

/// Load with these clients until `enough`.
fn until(at: SocketAddr, keep_alive: usize, fresh: usize, enough: fn(&LoadReport) -> bool) -> LoadReport {
    until_with(plan(keep_alive, fresh), at, enough)
}

/// As [`until`], with clients that time out soon.
fn until_soon(at: SocketAddr, keep_alive: usize, fresh: usize, enough: fn(&LoadReport) -> bool) -> LoadReport {
    until_with(Plan { limit: Duration::from_millis(200), ..plan(keep_alive, fresh) }, at, enough)
}

fn until_with(plan: Plan, at: SocketAddr, enough: fn(&LoadReport) -> bool) -> LoadReport {
    let load = Load::start(at, plan).unwrap();
    let since = Instant::now();
    while !enough(&load.report()) {
        assert!(since.elapsed() < LIMIT, "not enough: {:?}", load.report());
        std::thread::sleep(Duration::from_millis(1));
    }
    load.stop()
}

fn plan(keep_alive: usize, fresh: usize) -> Plan {
    Plan { keep_alive, fresh, limit: LIMIT, ..Plan::default() }
}

#[test]
fn answers_are_counted_for_each_kind_and_worker() {
    let report =
        until(server(serve_for_ever), 2, 2, |report| report.keep_alive.answered > 20 && report.fresh.answered > 20);
    let all = report.all();
    assert_eq!(all.failed(), 0, "{report:?}");
    assert_eq!(all.closed_idle, 0);
    assert_eq!(all.workers, BTreeMap::from([("7".to_owned(), all.answered)]));
}

#[test]
fn kept_connections_are_kept_and_fresh_ones_are_not() {
    static CONNECTIONS: Mutex<usize> = Mutex::new(0);
    let at = server(|stream| {
        *CONNECTIONS.lock().unwrap() += 1;
        serve_for_ever(stream);
    });
    let _ = until(at, 3, 0, |report| report.keep_alive.answered > 30);
    assert_eq!(*CONNECTIONS.lock().unwrap(), 3);
    let report = until(at, 0, 1, |report| report.fresh.answered > 10);
    assert_eq!(*CONNECTIONS.lock().unwrap() as u64, 3 + report.fresh.answered);
}

#[test]
fn connections_to_a_closed_port_are_refused() {
    let at = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
    let report = until(at, 1, 1, |report| report.all().refused >= 4);
    assert!(report.keep_alive.refused > 0 && report.fresh.refused > 0);
    assert_eq!(report.all().requests(), report.all().refused, "{report:?}");
}

#[test]
fn a_connection_closed_before_the_answer_is_reset() {
    let at = server(|mut stream| {
        request(&mut stream);
    });
    let report = until(at, 1, 1, |report| report.keep_alive.reset > 1 && report.fresh.reset > 1);
    assert_eq!(report.all().requests(), report.all().reset, "{report:?}");
    assert!(report.losses.iter().all(|lost| lost.loss == Loss::Reset && lost.worker.is_none()));
}

#[test]
fn a_kept_connection_closed_under_a_request_is_reset_and_its_worker_is_known() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, WHOLE);
        }
        request(&mut stream);
    });
    let report = until(at, 1, 0, |report| report.keep_alive.reset > 2);
    assert_eq!(report.keep_alive.closed_idle, 0);
    assert!(report.losses.iter().all(|lost| lost.worker.as_deref() == Some("7")), "{:?}", report.losses);
    assert!(report.losses.iter().all(|lost| lost.sent <= lost.noticed));
}

#[test]
fn a_connection_that_was_announced_to_close_is_replaced_without_loss() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, LAST);
        }
    });
    let report = until(at, 1, 0, |report| report.keep_alive.answered > 10);
    assert_eq!((report.keep_alive.failed(), report.keep_alive.closed_idle), (0, 0), "{report:?}");
}

#[test]
fn a_connection_closed_between_requests_loses_nothing_and_is_counted() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            // The FIN comes in one packet with the response, before the client can send another request.
            rustix::net::sockopt::set_tcp_cork(&stream, true).unwrap();
            answer(&mut stream, WHOLE);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    let think = Duration::from_millis(30);
    let load = Load::start(at, Plan { think, ..plan(1, 0) }).unwrap();
    let since = Instant::now();
    while load.report().keep_alive.closed_idle < 3 {
        assert!(since.elapsed() < LIMIT, "{:?}", load.report());
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = load.stop();
    assert_eq!(report.keep_alive.failed(), 0, "{report:?}");
}

#[test]
fn a_connection_closed_while_the_client_does_not_run_loses_nothing() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    static ANSWERS: AtomicUsize = AtomicUsize::new(0);
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, WHOLE);
        }
        drop(stream);
        CLOSED.fetch_add(1, Ordering::SeqCst);
    });
    // The client has the answer, and does not run until the connection is closed.
    let worker: WorkerOf = |body| {
        let answers = ANSWERS.fetch_add(1, Ordering::SeqCst) + 1;
        while CLOSED.load(Ordering::SeqCst) < answers {
            std::thread::yield_now();
        }
        pid_in_body(body)
    };
    let report = until_with(Plan { worker, ..plan(1, 0) }, at, |report| report.keep_alive.closed_idle > 20);
    assert_eq!(report.keep_alive.failed(), 0, "{report:?}");
}

#[test]
fn half_a_body_is_truncated() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, &WHOLE[..WHOLE.len() - 4]);
        }
    });
    let report = until(at, 1, 1, |report| report.keep_alive.truncated > 1 && report.fresh.truncated > 1);
    assert_eq!(report.all().requests(), report.all().truncated, "{report:?}");
}

#[test]
fn half_a_chunked_body_is_truncated() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        }
    });
    let report = until(at, 0, 1, |report| report.fresh.truncated > 1);
    assert_eq!(report.all().requests(), report.all().truncated, "{report:?}");
}

#[test]
fn a_request_without_a_response_is_hung() {
    let at = server(|mut stream| {
        request(&mut stream);
        // Until the client hangs up.
        let _ = stream.read(&mut [0]);
    });
    let report = until_soon(at, 1, 1, |report| report.keep_alive.hung > 0 && report.fresh.hung > 0);
    assert_eq!(report.all().requests(), report.all().hung, "{report:?}");
}

#[test]
fn a_body_that_never_ends_is_hung() {
    let at = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, &WHOLE[..WHOLE.len() - 4]);
        }
        let _ = stream.read(&mut [0]);
    });
    let report = until_soon(at, 1, 0, |report| report.keep_alive.hung > 0);
    assert_eq!(report.all().requests(), report.all().hung, "{report:?}");
}

#[test]
fn other_statuses_and_invalid_http_are_bad() {
    let error = server(|mut stream| {
        while request(&mut stream) {
            answer(&mut stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let nonsense = server(|mut stream| {
        if request(&mut stream) {
            answer(&mut stream, "hello, I am no web server\r\n\r\n");
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    for at in [error, nonsense] {
        let report = until(at, 1, 1, |report| report.keep_alive.bad > 1 && report.fresh.bad > 1);
        assert_eq!(report.all().requests(), report.all().bad, "{report:?}");
    }
}

#[test]
fn the_difference_of_two_reports_has_the_requests_between_them() {
    let load = Load::start(server(serve_for_ever), plan(1, 1)).unwrap();
    let since = Instant::now();
    let enough = |floor: u64| {
        while load.report().all().answered < floor {
            assert!(since.elapsed() < LIMIT);
            std::thread::sleep(Duration::from_millis(1));
        }
        load.report()
    };
    let first = enough(10);
    let second = enough(first.all().answered + 10);
    let between = second.since(&first);
    assert_eq!(between.all().answered, second.all().answered - first.all().answered);
    assert_eq!(between.all().workers["7"], between.all().answered);
}

#[test]
fn stopping_waits_for_requests_on_their_way_and_not_for_thinking_clients() {
    let (started, has_started) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let slow = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&mut stream);
        started.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        answer(&mut stream, WHOLE);
        stream
    });
    let think = Duration::from_secs(3600);
    let load = Load::start(at, Plan { think, limit: LIMIT, ..plan(1, 0) }).unwrap();
    has_started.recv_timeout(LIMIT).unwrap();
    assert_eq!(load.stop().keep_alive.answered, 1);
    drop(slow.join().unwrap());
}

#[test]
fn the_worker_is_found_in_the_body() {
    assert_eq!(pid_in_body(b"{\"pid\":12,\"instance\":\"0\"}").as_deref(), Some("12"));
    assert_eq!(pid_in_body(b"hello"), None);
}
