//! The two sockets of the daemon: garbage is ignored, other users are refused, events are lines of JSON.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use nix::sys::signal::Signal;

use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::{Home, app, copy_program, pmr, processes};

fn connect(home: &Home, socket: &str) -> UnixStream {
    let stream = UnixStream::connect(home.root().join(socket)).expect("the daemon listens");
    stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    stream
}

/// Reads events until one matches, and returns all of them.
fn events_until(reader: &mut impl BufRead, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line);
        assert!(read.is_ok_and(|bytes| bytes > 0), "the stream ended after {events:?}");
        events.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}")));
        if wanted(&events[events.len() - 1]) {
            return events;
        }
    }
}

#[test]
fn garbage_on_either_socket_is_ignored() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let (daemon, worker) = (home.daemon_pid(), home.one("tell").pid);
    let mut pieces: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        vec![0; 4096],
        b"\x00\x00\x00\x05hello".to_vec(),
        b"\x00\x00\x00\x40{\"half\":".to_vec(),
        b"\x7f\xff\xff\xff".to_vec(),
        b"\x00\x00\x00\x10{\"Request\":12345".to_vec(),
        b"\x00\x00\x00\x02{}".to_vec(),
    ];
    let deep = "[".repeat(200_000);
    pieces.push([&u32::try_from(deep.len()).unwrap().to_be_bytes()[..], deep.as_bytes()].concat());
    let mut half_open = Vec::new();
    for socket in ["rpc.sock", "pub.sock"] {
        for piece in &pieces {
            let mut stream = connect(&home, socket);
            // The daemon may close the connection in the middle.
            let _ = stream.write_all(piece);
            half_open.push(stream);
            home.ok("ping");
        }
    }
    for _ in 0..200 {
        drop(connect(&home, "rpc.sock"));
    }
    assert_eq!((home.daemon_pid(), home.one("tell").pid), (daemon, worker));
    home.ok("restart tell");
    drop(half_open);
    home.ok("ping");
}

#[test]
fn a_frame_that_is_too_long_ends_its_connection() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let mut stream = connect(&home, "rpc.sock");
    stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "{rest:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    home.ok("ping");
}

#[test]
fn another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let binary = home.scratch().join("pmr");
    copy_program(&pmr::binary(), &binary);
    let open = |path: &std::path::Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(home.scratch(), 0o755);
    let as_nobody = |verb: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary).arg(verb);
        let output = command.env("PMR_HOME", home.root()).current_dir("/").output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
        )
    };
    let (code, words) = as_nobody("jlist");
    assert!(code == Some(1) && words.contains("ermission denied"), "the home is closed to others: {words}");
    for (path, mode) in
        [(home.root().to_owned(), 0o755), (home.root().join("rpc.sock"), 0o666), (home.root().join("pub.sock"), 0o666)]
    {
        open(&path, mode);
    }
    let (code, words) = as_nobody("jlist");
    assert!(code == Some(1) && !words.contains("tell"), "and if it were open, the daemon checks the peer: {words}");
    let (code, words) = as_nobody("kill");
    assert!(code == Some(1), "{words}");
    assert!(home.one("tell").online());
    let mut reader = Command::new("setpriv");
    reader.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e"]);
    reader.arg(
        "my $s = IO::Socket::UNIX->new(Peer => shift) or die; alarm 20; my $line = <$s>; print $line // 'nothing'",
    );
    let read = reader.arg(home.root().join("pub.sock")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "nothing", "{read:?}");
}

#[test]
fn events_are_lines_of_json_in_order() {
    let home = Home::new();
    home.ok(&format!("start {} -n first", app("tell.sh")));
    let mut reader = BufReader::new(connect(&home, "pub.sock"));
    home.sync();
    home.ok(&format!("start {} -n api --restart-delay 100", app("tell.sh")));
    home.ok("save");
    processes::signal(home.one("api").pid, Signal::SIGKILL);
    home.when("api", "restarted", |rows| rows[0].restarts == 1 && rows[0].online());
    home.ok("delete api");
    let events = events_until(&mut reader, |event| event["event"] == "deleted");
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let mut wanted = [
        "created",
        "started",
        "online",
        "saved",
        "exited",
        "waiting_restart",
        "started",
        "online",
        "stopping",
        "exited",
        "stopped",
        "deleted",
    ]
    .into_iter()
    .peekable();
    for kind in &kinds {
        wanted.next_if_eq(kind);
    }
    assert_eq!(wanted.peek(), None, "{kinds:?}");
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let of_app = events.iter().find(|event| event["event"] == "started").unwrap();
    assert_eq!((of_app["process"]["name"].as_str(), of_app["process"]["id"].as_u64()), (Some("api"), Some(1)));
    home.ok("kill");
    events_until(&mut reader, |event| event["event"] == "shutting_down");
}

/// Counts of the events after a certain one.
#[derive(Default)]
struct Received {
    delivered: u64,
    lost: u64,
    published: u64,
}

/// Receives until this number of messages was published. A loss is reported with the next event only, so this function
/// causes an event whenever none arrives: `saves` counts them.
fn receive_all(
    home: &Home,
    reader: &mut BufReader<UnixStream>,
    after: u64,
    messages: u64,
    saves: &mut u64,
) -> Received {
    reader.get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut received, mut line) = (Received::default(), String::new());
    let deadline = Instant::now() + WAIT_LIMIT;
    while received.published < messages + *saves && Instant::now() < deadline {
        // The part of a line that was read before the timeout stays in the buffer.
        if reader.read_line(&mut line).is_err() {
            home.ok("save");
            *saves += 1;
            continue;
        }
        let event: Value = serde_json::from_str(&line).unwrap();
        let seq = event["seq"].as_u64().unwrap();
        match event["event"].as_str() {
            Some("lost") => received.lost += event["count"].as_u64().unwrap(),
            _ if seq > after => {
                received.delivered += 1;
                received.published = seq - after;
            }
            _ => {}
        }
        line.clear();
    }
    received
}

#[test]
fn a_slow_subscriber_learns_how_many_events_it_lost() {
    let home = Home::new();
    const MESSAGES: u64 = 3000;
    home.ok(&format!("start {} -- {MESSAGES}", app("chatty.js")));
    home.logged("chatty-out.log", "chatty");
    let mut quick = BufReader::new(connect(&home, "pub.sock"));
    let slow = connect(&home, "pub.sock");
    home.sync();
    home.ok("save");
    let first = events_until(&mut quick, |event| event["event"] == "saved").pop().unwrap();
    let first = first["seq"].as_u64().unwrap();
    home.ok("sendSignal USR2 chatty");
    home.logged("chatty-out.log", "all sent");
    let mut saves = 0;
    let received = receive_all(&home, &mut quick, first, MESSAGES, &mut saves);
    assert!(received.published >= MESSAGES, "only {} came", received.published);
    assert_eq!(
        received.delivered + received.lost,
        received.published,
        "each was delivered to one that keeps up, or counted"
    );
    let received = receive_all(&home, &mut BufReader::new(slow), first, MESSAGES, &mut saves);
    assert!(received.lost > 0, "{} of {MESSAGES} were small enough to wait", received.delivered);
    assert_eq!(received.delivered + received.lost, received.published, "each was delivered or counted");
    until("the daemon is well", || home.run("ping").code == Some(0));
}
