//! The end of programs and of the process that answers their calls, and what the next process finds.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pmr::os::net::reuseport::KernelBalancing;
use pmr::os::seccomp::recovery::join;
use pmr::os::seccomp::{Answer, BindWatch, Call, Delivery, Request};
use pmr::os::tracer::Tracer;

use crate::host::{Done, Host, ask, free_port, until_gone};
use crate::program::{Program, eventually, possible, print, python, server};

/// A copy of the watch's descriptor, as the keeper has one.
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
    // The child is no descendant of its parent any more once that has ended, but it is still under the watch.
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

/// Processes other than `root` with this in their command line.
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
fn a_bind_waits_while_no_process_answers_the_watch() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let program = python(&server(port));
    eventually("a thread that waits", || program.watch.waiting_calls(&[program.pid]).pop());
    let kept = copy(&program);
    // The next process answers on a copy of the same watch.
    let mut program = program;
    program.watch = kept;
    let (key, _) = host.until_listening(&program);
    assert_eq!(ask(key.address), program.pid);
}

#[test]
fn a_call_in_flight_is_answered_by_the_next_process() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let program = python(&server(port));
    let request = program.next_call().unwrap();
    // The process that received the call recorded it and died.
    let json = serde_json::to_string(&request).unwrap();
    drop(request);
    assert_eq!(program.watch.next().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is not delivered again");
    let request: Request = serde_json::from_str(&json).unwrap();
    assert!(program.watch.is_waiting(request.id).unwrap());
    assert!(matches!(host.handle(&program, &request), Done::Bound(_)));
    assert!(!program.watch.is_waiting(request.id).unwrap());
    // It received the next call and died before it recorded that.
    let last = request.id;
    let lost = program.next_call().unwrap();
    // The watch reports a call before its thread sleeps in it.
    let found = eventually("one number and one thread", || {
        join(program.watch.unanswered_after(last), program.watch.waiting_calls(&[program.pid]))
    });
    assert_eq!(found, lost);
    assert!(matches!(host.handle(&program, &found), Done::Listening(..)));
    assert_eq!(ask(format!("127.0.0.1:{port}").parse().unwrap()), program.pid);
}

#[test]
fn an_answer_to_a_killed_program_is_reported_as_gone() {
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
fn a_call_fails_when_the_last_copy_of_the_watch_is_closed() {
    if !possible() {
        return;
    }
    let mut program =
        python("import time\ntry:\n  s = socket.create_server(('127.0.0.1', 0))\nexcept OSError as e: print(e.errno)");
    let _received = program.next_call().unwrap();
    // This also ends calls that were received: the program gets an error and does not hang.
    program.watch = BindWatch::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
    assert_eq!(program.output(), "38\n", "ENOSYS");
}

#[test]
fn a_watch_under_another_watch_is_reported_as_impossible() {
    if !possible() {
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let arguments = ["--exact", "going::prints_the_obstacle", "--nocapture", "--include-ignored"];
    let program = crate::program::start(exe.to_str().unwrap(), &arguments, None);
    let output = program.output();
    assert!(output.contains("obstacle: another supervisor above this one watches binds already"), "{output}");
}

#[test]
#[ignore = "run by the test above, under a watch"]
fn prints_the_obstacle() {
    use std::io::Write;
    let found = pmr::os::seccomp::ability::ability(None, &Tracer::direct()).unwrap();
    let text = found.obstacle().map_or("none".to_owned(), ToString::to_string);
    writeln!(std::io::stdout(), "obstacle: {text}").unwrap();
}

/// Measures and prints the time of an intercepted call. Neither side polls by a timer.
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
    let output = program.output();
    print(&format!("a call took the program {} us; the answers to {TIMES} took {spent:?}", output.trim()));
    assert!(per_call < Duration::from_millis(100), "{per_call:?}");
}
