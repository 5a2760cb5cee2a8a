//! What the kernel allows, and errors of the watch. Tests with whole programs are in `tests/takeover`.

use std::io;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::ability::ability;
use super::call::read_call;
use super::*;
use crate::os::eventually::eventually;
use crate::os::process::credentials::Credentials;
use crate::os::tracer::Tracer;

#[test]
fn the_abilities_of_this_machine_are_found_out() {
    let found = ability(None, &Tracer::direct()).unwrap();
    let text = found.obstacle().map_or("all".to_owned(), ToString::to_string);
    let _ = writeln!(io::stderr(), "allowed here: {text}");
    if super::super::process::identity::uid() != 0 {
        return;
    }
    let user = Credentials { uid: 4321, gid: 4322, groups: vec![4322] };
    let as_user = ability(Some(&user), &Tracer::direct()).unwrap();
    assert_eq!(as_user.notify, found.notify, "the filter is installed before the user changes");
    assert_eq!(as_user.keeps_privileges, found.keeps_privileges);
}

#[test]
fn the_message_of_an_obstacle_names_the_call() {
    let obstacle = |errno| ability::Obstacle { call: "seccomp".to_owned(), errno, yama: None }.to_string();
    assert_eq!(obstacle(libc::EPERM), "seccomp: Operation not permitted (os error 1)");
    assert!(obstacle(libc::EBUSY).starts_with("another supervisor above this one watches binds already"));
    let yama = ability::Obstacle { call: "pidfd_getfd".to_owned(), errno: libc::EPERM, yama: Some(2) };
    assert!(yama.to_string().ends_with("(os error 1), as kernel.yama.ptrace_scope is 2"), "{yama}");
}

#[test]
fn an_address_in_unmapped_memory_is_a_fault() {
    let own = i32::try_from(std::process::id()).unwrap();
    let tracer = Tracer::direct();
    match read_call(&tracer, own, libc::SYS_bind, [3, 1, 16, 0, 0, 0]) {
        Some(Call::BindUnreadable { socket: 3, errno }) => assert!([libc::EFAULT, libc::EPERM].contains(&errno)),
        other => panic!("{other:?}"),
    }
    let listen = read_call(&tracer, own, libc::SYS_listen, [7, 0xFFFF_FFFF, 0, 0, 0, 0]);
    assert_eq!(listen, Some(Call::Listen { socket: 7, backlog: -1 }));
    assert_eq!(read_call(&tracer, own, libc::SYS_read, [0; 6]), None);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_arguments_of_a_socketcall_are_read_from_memory() {
    let own = i32::try_from(std::process::id()).unwrap();
    let tracer = Tracer::direct();
    let words = [7_u32, 0xFFFF_FFFF, 0];
    let read = |call, at| read_call(&tracer, own, i386::SOCKETCALL, [u64::from(call), at, 0, 0, 0, 0]);
    let listen = read(i386::SOCKETCALL_LISTEN, words.as_ptr() as u64);
    assert_eq!(listen, Some(Call::Listen { socket: 7, backlog: -1 }));
    for call in [i386::SOCKETCALL_BIND, i386::SOCKETCALL_LISTEN] {
        assert!(matches!(read(call, 1), Some(Call::BindUnreadable { socket: -1, .. })));
    }
    assert_eq!(read(1, words.as_ptr() as u64), None, "another call");
}

#[test]
fn without_a_child_there_is_no_watch() {
    let (pending, theirs) = handover().unwrap();
    assert_eq!(pending.take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(theirs);
    eventually("the end of the pair", || {
        pending.take().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
    });
}

#[test]
fn a_lost_call_is_joined_only_with_the_only_lost_number() {
    let call = Call::Listen { socket: 3, backlog: 5 };
    let joined = recovery::join(vec![RequestId(7)], vec![(12, call.clone())]);
    assert_eq!(joined, Some(Request { id: RequestId(7), thread: 12, call: call.clone() }));
    assert_eq!(recovery::join(vec![RequestId(7)], vec![]), None);
    assert_eq!(recovery::join(vec![RequestId(7), RequestId(8)], vec![(12, call.clone())]), None);
    assert_eq!(recovery::join(vec![RequestId(7)], vec![(12, call.clone()), (13, call)]), None);
}

#[test]
fn a_container_that_forbids_pidfd_getfd_is_an_obstacle() {
    const ALONE: &str = "PMR_TEST_ALONE";
    let name = "os::seccomp::tests::a_container_that_forbids_pidfd_getfd_is_an_obstacle";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let before = ability(None, &Tracer::direct()).unwrap();
    forbid(libc::SYS_pidfd_getfd);
    let found = ability(None, &Tracer::direct()).unwrap();
    assert_eq!(found.take.as_ref().unwrap_err().to_string(), "pidfd_getfd: Operation not permitted (os error 1)");
    assert_eq!((found.notify.is_ok(), found.read.is_ok()), (before.notify.is_ok(), before.read.is_ok()));
    assert!(!found.is_complete());
}

/// Has this call fail with `EPERM` in this thread and its children from now on, as container profiles do it.
fn forbid(call: libc::c_long) {
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let mut filter = [
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the filter, whose length is in `len`.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn a_signal_does_not_make_next_fail() {
    extern "C" fn ignore(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, and no other test uses this signal.
    unsafe { sigaction(Signal::SIGURG, &action) }.unwrap();
    let (silent, _writer) = rustix::pipe::pipe().unwrap();
    let watch = BindWatch::from(silent);
    let done = AtomicBool::new(false);
    // SAFETY: the call has no arguments.
    let watching = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the signalled thread lives: it waits for the end of this one.
                unsafe { libc::pthread_kill(watching, libc::SIGURG) };
            }
        });
        let mut errors = (0..200_000).map(|_| watch.next().unwrap_err().kind());
        let other = errors.find(|kind| *kind != io::ErrorKind::WouldBlock);
        done.store(true, Ordering::Relaxed);
        assert_eq!(other, None);
    });
}
