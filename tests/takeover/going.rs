//! The ends of programs and of the daemon that answers their calls, and what the next daemon finds.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pmr::os::net::reuseport::KernelBalancing;
use pmr::os::seccomp::recovery::join;
use pmr::os::seccomp::{Answer, BindWatch, Call, Delivery, Request};
use pmr::os::tracer::Tracer;

use crate::host::{Done, Host, ask, free_port, until_gone};
use crate::program::{Program, eventually, possible, python, server, tell};

/// Another descriptor of the watch, as a keeper has it.
fn copy(program: &Program) -> BindWatch {
    BindWatch::from(program.watch.as_fd().try_clone_to_owned().unwrap())
}

#[test]
fn the_watch_ends_with_the_last_descendant() {
    if !possible() {
        return;
    }
    // The child leaves the session and outlives its parent.
    let mark = format!("# started by {}", std::process::id());
    let lasting = format!("if os.fork() == 0:\n  os.setsid()\n  __import__('time').sleep(600)\n{mark}");
    let program = python(&lasting);
    let root = program.pid;
    // The child outlives its parent. The watch finds it, although its parent is another process by then.
    eventually("the parent's end", || match pmr::os::process::pidfd::open(root) {
        Ok(process) => pmr::os::process::pidfd::exit_status(process).map(drop).or_else(|| zombie(root)),
        Err(_) => Some(()),
    });
    assert_eq!(program.watch.next().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the child is left");
    for pid in orphans_of(root, &mark) {
        pmr::os::process::tree::signal(pid, 9).unwrap();
        until_gone(pid);
    }
    assert_eq!(program.next_call(), None);
}

fn zombie(pid: i32) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.contains("State:\tZ").then_some(())
}

/// Processes with this in their command line, whose parent is gone.
fn orphans_of(root: i32, mark: &str) -> Vec<i32> {
    let is_one = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(mark)) && *pid != root
    };
    pmr::os::process::proc::sweep().into_keys().filter(is_one).collect()
}

#[tokio::test]
async fn calls_and_the_end_can_be_awaited() {
    if !possible() {
        return;
    }
    let program = python("s = socket.create_server(('127.0.0.1', 0))");
    let watch = copy(&program).watch().unwrap();
    let mut calls = Vec::new();
    loop {
        let mut ready = watch.readable().await.unwrap();
        match ready.try_io(|watch| watch.get_ref().next()) {
            Ok(Ok(Some(request))) => {
                assert_eq!(watch.get_ref().answer(request.id, Answer::Continue).unwrap(), Delivery::Delivered);
                calls.push(request.call);
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
            Err(_would_block) => {}
        }
    }
    assert!(matches!(&calls[..], [Call::Bind { .. }, Call::Listen { backlog, .. }] if *backlog > 0), "{calls:?}");
}

#[test]
fn a_program_that_binds_while_no_daemon_answers_waits() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let program = python(&server(port));
    eventually("a thread that waits", || program.watch.waiting_calls(&[program.pid]).pop());
    let kept = copy(&program);
    // For a while no daemon answers; the next one has the same watch.
    let mut program = program;
    program.watch = kept;
    let (key, _) = host.until_listening(&program);
    assert_eq!(ask(key.address), program.pid);
}

#[test]
fn a_call_in_flight_is_answered_by_the_next_daemon() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let program = python(&server(port));
    let request = program.next_call().unwrap();
    // The daemon recorded the call and died.
    let json = serde_json::to_string(&request).unwrap();
    drop(request);
    assert_eq!(program.watch.next().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a call is reported once");
    let request: Request = serde_json::from_str(&json).unwrap();
    assert!(program.watch.is_waiting(request.id).unwrap());
    assert!(matches!(host.handle(&program, &request), Done::Bound(_)));
    assert!(!program.watch.is_waiting(request.id).unwrap());
    // The daemon received the next call and died before it recorded it.
    let last = request.id;
    let lost = program.next_call().unwrap();
    // A call is reported before its thread has gone to sleep in it.
    let found = eventually("one of each", || {
        join(program.watch.unanswered_after(last), program.watch.waiting_calls(&[program.pid]))
    });
    assert_eq!(found, lost);
    assert!(matches!(host.handle(&program, &found), Done::Listening(..)));
    assert_eq!(ask(format!("127.0.0.1:{port}").parse().unwrap()), program.pid);
}

#[test]
fn a_program_killed_while_it_waits_gets_no_answer() {
    if !possible() {
        return;
    }
    let program = python(&server(free_port()));
    let request = program.next_call().unwrap();
    let watch = copy(&program);
    program.kill();
    assert!(!watch.is_waiting(request.id).unwrap());
    assert_eq!(watch.answer(request.id, Answer::Success).unwrap(), Delivery::Gone);
    assert_eq!(watch.next().unwrap(), None);
}

#[test]
fn a_closed_watch_refuses_all_calls() {
    if !possible() {
        return;
    }
    let mut program =
        python("import time\ntry:\n  s = socket.create_server(('127.0.0.1', 0))\nexcept OSError as e: print(e.errno)");
    let _received = program.next_call().unwrap();
    // A received call is refused as well: a call that cannot be recovered ends in an error, not in a program that hangs.
    program.watch = BindWatch::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
    assert_eq!(program.last_words(), "38\n", "ENOSYS");
}

#[test]
fn a_watched_program_cannot_be_watched_twice() {
    if !possible() {
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let arguments = ["--exact", "going::says_what_it_can_do", "--nocapture", "--include-ignored"];
    let program = crate::program::start(exe.to_str().unwrap(), &arguments, None);
    let said = program.last_words();
    assert!(said.contains("can: another supervisor above this one watches binds already"), "{said}");
}

#[test]
#[ignore = "run by the test above, under a watch"]
fn says_what_it_can_do() {
    use std::io::Write;
    let found = pmr::os::seccomp::ability::ability(None, &Tracer::direct()).unwrap();
    let text = found.obstacle().map_or("all".to_owned(), ToString::to_string);
    writeln!(std::io::stdout(), "can: {text}").unwrap();
}

/// What a notification costs: it says how much it was. Each has its turn on the processor; none waits for a clock.
#[test]
fn a_round_trip_is_short() {
    if !possible() {
        return;
    }
    const TIMES: usize = 500;
    let program = python(&format!(
        "s = socket.socket()\nimport time\nt = time.time()\nfor i in range({TIMES}): s.listen(5)\nprint((time.time() - t) / {TIMES} * 1e6)"
    ));
    let mut threads = HashSet::new();
    let start = Instant::now();
    let mut spent = Duration::ZERO;
    while let Some(request) = program.next_call_at_once() {
        let begun = Instant::now();
        threads.insert(request.thread);
        drop(program.watch.take_socket(&request).unwrap());
        program.watch.answer(request.id, Answer::Success).unwrap();
        spent += begun.elapsed();
    }
    let per_call = start.elapsed() / u32::try_from(TIMES).unwrap();
    assert_eq!(threads.len(), 1);
    let said = program.last_words();
    tell(&format!("a round trip took the program {} us, and us {spent:?} in {TIMES} of them", said.trim()));
    assert!(per_call < Duration::from_millis(100), "{per_call:?}");
}
