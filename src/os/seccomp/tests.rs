//! What the kernel allows us, and what happens to a watch. Whole programs under it are in `tests/takeover`.

use std::io::Write;

use super::ability::ability;
use super::*;
use crate::os::spawn::Credentials;

#[test]
fn this_machine_says_what_it_allows() {
    let found = ability(None).unwrap();
    let text = found.obstacle().map_or("all".to_owned(), ToString::to_string);
    writeln!(io::stderr(), "allowed here: {text}").unwrap();
    if super::super::identity::uid() != 0 {
        return;
    }
    let user = Credentials { uid: 4321, gid: 4322, groups: vec![4322] };
    let as_user = ability(Some(&user)).unwrap();
    assert_eq!(as_user.notify, found.notify, "it is installed before the user changes");
    assert_eq!(as_user.keeps_privileges, found.keeps_privileges);
}

#[test]
fn an_obstacle_names_the_call() {
    let obstacle = ability::Obstacle { call: "seccomp".to_owned(), errno: libc::EBUSY };
    assert_eq!(obstacle.to_string(), "seccomp: Device or resource busy (os error 16)");
}

#[test]
fn memory_that_is_not_there_is_a_fault() {
    let own = i32::try_from(std::process::id()).unwrap();
    match read_call(own, libc::SYS_bind, [3, 1, 16, 0, 0, 0]) {
        Some(Call::BindUnreadable { socket: 3, errno }) => assert!([libc::EFAULT, libc::EPERM].contains(&errno)),
        other => panic!("{other:?}"),
    }
    let listen = read_call(own, libc::SYS_listen, [7, 0xFFFF_FFFF, 0, 0, 0, 0]);
    assert_eq!(listen, Some(Call::Listen { socket: 7, backlog: -1 }));
    assert_eq!(read_call(own, libc::SYS_read, [0; 6]), None);
}

#[test]
fn a_child_that_never_came_leaves_nothing() {
    let (pending, theirs) = handover().unwrap();
    assert_eq!(pending.take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(theirs);
    assert_eq!(pending.take().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn lost_calls_are_joined_only_without_doubt() {
    let call = Call::Listen { socket: 3, backlog: 5 };
    let joined = recovery::join(vec![RequestId(7)], vec![(12, call.clone())]);
    assert_eq!(joined, Some(Request { id: RequestId(7), thread: 12, call: call.clone() }));
    assert_eq!(recovery::join(vec![RequestId(7)], vec![]), None);
    assert_eq!(recovery::join(vec![RequestId(7), RequestId(8)], vec![(12, call.clone())]), None);
    assert_eq!(recovery::join(vec![RequestId(7)], vec![(12, call.clone()), (13, call)]), None);
}
