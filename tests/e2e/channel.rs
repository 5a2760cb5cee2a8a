//! Workers that get their connections over pmr's own channel: those of `examples/channel/`, and some that misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use nix::sys::signal::Signal;

use crate::crash::kill_god;
use crate::load::{Kind, Load, LoadStats, Loads, Mode};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::listing::pids;
use crate::support::{Home, app, example, http, processes};

/// Concurrent clients of each mode.
const CLIENTS: usize = 6;

/// The clustered app `web`.
struct Web {
    home: Home,
    port: u16,
}

impl Web {
    /// Starts a program with this number of workers.
    fn start(program: &str, workers: u32) -> Web {
        let web = Web { home: Home::new(), port: http::free_port() };
        web.serve(&format!("{program} -i {workers}"));
        web
    }

    fn serve(&self, line: &str) {
        self.home.serve(self.port, &format!("-n web --exec-mode cluster {line}"));
    }

    /// Sets the credit of a worker, and waits until the daemon has received it.
    fn credit(&self, instance: usize, credit: u32) {
        let pid = self.pids()[instance];
        self.home.write(&format!("credit-{pid}"), &credit.to_string());
        self.home.logged(&format!("web-out-{instance}.log"), &format!("credit {credit}\n"));
        self.home.sync();
    }

    fn loads(&self) -> Loads<2> {
        Loads::start([Mode::New, Mode::Keep], self.port, CLIENTS)
    }

    fn pids(&self) -> Vec<i32> {
        pids(&self.home.of("web"))
    }
}

fn python() -> String {
    example("channel/server.py")
}

/// The path of the axum example, which is built once.
fn axum() -> String {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--example", "axum"]));
    built("examples/axum")
}

/// The path of the Rust example that needs only the worker library.
fn rust() -> String {
    build(&["-p", "channel-example"]);
    built("channel-example")
}

fn build(what: &[&str]) {
    let status = Command::new(env!("CARGO")).args(["build", "--quiet"]).args(what).status();
    assert!(status.expect("cargo is there").success(), "{what:?} is sound");
}

fn built(program: &str) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_pmr")).parent().expect("it is in a folder");
    folder.join(program).display().to_string()
}

/// The path of the Go example, built into this folder. `None` without Go.
fn go(folder: &Path) -> Option<String> {
    let path = folder.join("server");
    let built = Command::new("go").args(["build", "-o"]).arg(&path).arg(example("channel/server.go")).status();
    match built {
        Ok(status) => assert!(status.success(), "the example is sound"),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: go: {error}");
            return None;
        }
    }
    Some(path.display().to_string())
}

/// Exact round robin, reloads, scaling and the death of God lose no request, and the death of a worker loses only its
/// own. The clients open a connection for each request, or keep theirs for ever and do not retry, as no browser would.
fn loses_no_request(program: &str) {
    let web = Web::start(program, 4);
    let stats = Load::count(Kind::Http, Mode::New, web.port, 200);
    let even: BTreeMap<i32, u64> = web.pids().into_iter().map(|pid| (pid, 50)).collect();
    assert_eq!((stats.by, stats.failed.len()), (even, 0), "exactly in turn: {:?}", stats.failed.first());

    let mut loads = web.loads();
    for _ in 0..5 {
        let before = web.pids();
        web.home.ok("reload web");
        assert!(web.pids().iter().all(|pid| !before.contains(pid)));
        loads.are_served();
    }
    web.home.ok("scale web 2");
    loads.are_served();
    web.home.ok("scale web 4");
    for _ in 0..3 {
        kill_god(&web.home);
        loads.are_served();
    }
    loads.leave_content();

    let mut loads = web.loads();
    let victim = web.pids()[0];
    processes::signal(victim, Signal::SIGKILL);
    web.home.replaced("web", &[victim]);
    loads.are_served();
    for LoadStats { failed, .. } in loads.stop() {
        assert!(failed.len() <= CLIENTS, "what was not inside it is answered by others: {failed:?}");
        assert!(failed.iter().all(|failed| failed.how == "reset" || failed.how == "truncated"), "{failed:?}");
    }
}

#[test]
fn a_python_worker_loses_no_request() {
    loses_no_request(&python());
}

#[test]
fn a_rust_worker_loses_no_request() {
    loses_no_request(&rust());
}

#[test]
fn the_worker_library_does_not_depend_on_the_manager() {
    let tree = ["tree", "--prefix", "none", "--edges", "normal,no-proc-macro", "-p", "channel-example"];
    let output = Command::new(env!("CARGO")).args(tree).output().expect("cargo is there");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("pmr-worker") && crates.contains("tokio"), "{crates:?}");
    assert!(crates.len() <= 15 && !crates.contains("pmr"), "{} crates: {crates:?}", crates.len());
}

#[test]
fn an_axum_worker_loses_no_request() {
    loses_no_request(&axum());
}

#[test]
fn a_go_worker_loses_no_request() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    if let Some(program) = go(folder.path()) {
        loses_no_request(&program);
    }
}

#[test]
fn a_rust_worker_without_pmr_binds_by_itself() {
    let port = http::free_port();
    let mut server = Command::new(axum()).env("PORT", port.to_string()).spawn().expect("it was built");
    until("it answers", || http::get(port, "/").is_ok_and(|pid| pid == server.id().to_string()));
    processes::signal(i32::try_from(server.id()).expect("pids are small"), Signal::SIGTERM);
    assert!(server.wait().expect("it is ours").success(), "it ends in good order");
}

#[test]
fn a_worker_without_credit_gets_no_connection() {
    let web = Web::start(&app("channel.py"), 2);
    let [no_credit, other] = web.pids()[..] else { panic!("two workers") };
    web.credit(0, 0);
    web.credit(1, 16);
    let stats = Load::count(Kind::Http, Mode::New, web.port, 40);
    assert_eq!((stats.by, stats.failed.len()), (BTreeMap::from([(other, 40)]), 0));

    web.credit(1, 0);
    let mut waiting = TcpStream::connect(("127.0.0.1", web.port)).expect("the socket is open");
    write!(waiting, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("the request is sent");
    waiting.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a limit can be set");
    assert!(waiting.read(&mut [0; 64]).is_err(), "no worker has credit");
    kill_god(&web.home);
    assert!(waiting.read(&mut [0; 64]).is_err(), "nor with the next daemon");
    web.home.write(&format!("credit-{no_credit}"), "1");
    waiting.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit can be set");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("it is answered in the end");
    assert!(answer.trim_end().ends_with(&no_credit.to_string()), "{answer}");
}

#[test]
fn garbage_on_a_channel_is_ignored() {
    let web = Web::start(&app("channel.py"), 2);
    let stats = Load::count(Kind::Http, Mode::New, web.port, 10);
    assert_eq!((stats.by.len(), stats.failed.len()), (2, 0));
    let faulty = web.pids()[0];
    web.home.write(&format!("garbage-{faulty}"), "");
    web.home.logged("web-out-0.log", "garbage sent");
    let stats = Load::count(Kind::Http, Mode::New, web.port, 20);
    assert_eq!((stats.by.len(), stats.failed.len()), (2, 0), "the faulty worker still gets connections");
    assert_eq!(web.pids()[0], faulty);
    web.home.daemon_logged("wrote something strange to its channel");
}

#[test]
fn an_unknown_protocol_version_is_reported() {
    let home = Home::new();
    let line = format!("start {} -n web -i 1 --exec-mode cluster --listen-timeout 300", app("channel.py"));
    home.pmr(line.split_whitespace()).env("VERSION", "99").env("PORT", "0").run();
    home.logged("web-out-0.log", "unwelcome: 1 to 1");
    home.daemon_logged("version 99 of the worker protocol");
}

/// The response to a client that sends its request at once and reads to the end.
fn answer_of(port: u16) -> String {
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the socket is open");
    write!(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("the request is sent");
    client.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit can be set");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the response ends");
    answer
}

#[test]
fn a_client_that_waits_too_long_is_answered_as_configured() {
    for (words, expected) in [("503", "HTTP/1.1 503 Service Unavailable\r\n"), ("close", "")] {
        let web = Web { home: Home::new(), port: http::free_port() };
        web.serve(&format!("{} -i 1 --queue-timeout 500ms --on-queue-timeout {words}", app("channel.py")));
        until("a worker that is ready serves", || answer_of(web.port).starts_with("HTTP/1.1 200"));
        web.credit(0, 0);
        let answer = answer_of(web.port);
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{answer:?}");
        let waiting = std::thread::spawn({
            let port = web.port;
            move || answer_of(port)
        });
        web.credit(0, 16);
        drop(waiting.join().expect("it is answered one way or the other"));
        until("all is as before", || answer_of(web.port).starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn a_client_above_the_connection_limit_waits() {
    let web = Web { home: Home::new(), port: http::free_port() };
    web.serve(&format!("{} -i 1 --max-connections 2", python()));
    let connect = || TcpStream::connect(("127.0.0.1", web.port)).expect("the socket is open");
    let mut silent = [connect(), connect()];
    for client in &mut silent {
        write!(client, "GET / HTTP/1.1\r\n").expect("half a request is written");
    }
    let mut third = connect();
    write!(third, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it waits");
    third.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a limit can be set");
    assert!(third.read(&mut [0; 8]).is_err(), "two are all it may have");
    drop(silent);
    third.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit can be set");
    assert!(third.read(&mut [0; 8]).expect("its turn has come") > 0);
}

#[test]
fn each_worker_is_checked_on_its_channel_and_a_sick_release_never_serves() {
    let web = Web { home: Home::new(), port: http::free_port() };
    let status = "500 if self.path == '/healthz' and os.path.exists('sick') else 200";
    let text = std::fs::read_to_string(python()).unwrap();
    let sick = text.replace("self.send_response(200)", &format!("self.send_response({status})"));
    assert_ne!(sick, text);
    let script = web.home.write("server.py", &sick);
    let config = |patience: u32| {
        // The long interval keeps the old workers healthy for the time of the reload.
        let web = serde_json::json!({ "name": "web", "script": script, "instances": 2, "exec_mode": "cluster",
            "health": { "http": "/healthz", "interval": "1h", "timeout": "1m" }, "listen_timeout": patience,
            "drain_timeout": "100s", "env": { "PORT": web.port.to_string() } });
        serde_json::json!({ "apps": [web] }).to_string()
    };
    web.home.write("web.json", &config(100_000));
    web.home.ok("start web.json");
    web.home.ok("describe web").says("pmr's own channel");
    let load = Load::start(Kind::Http, Mode::New, web.port, CLIENTS);
    let before = web.pids();
    web.home.write("sick", "");
    web.home.write("web.json", &config(10_000));
    web.home.run("reload web.json").code(1).complains("status 500; the old process goes on serving");
    assert_eq!(web.pids(), before);
    let stats = load.stop();
    assert!(stats.failed.is_empty() && stats.by.keys().all(|pid| before.contains(pid)), "{stats:?}");
}
