//! The layout, byte by byte, and what is not of it.

use super::*;

const STATUS: Status = Status { open: 2, credit: 16, taken: 0x0102_0304_0506_0708, token: 9 };

#[test]
fn packets_are_as_the_tables_say() {
    assert_eq!(FromWorker::Hello { version: 1 }.encode(), b"\x01\0\x01\0PMR1");
    let listen = FromWorker::Listen { index: 3, backlog: 128, address: "[::]:80" };
    assert_eq!(listen.encode(), b"\x02\0\x80\0\x03\0\0\0[::]:80");
    let status = b"\x04\0\0\0\x02\0\0\0\x10\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0";
    assert_eq!(FromWorker::Status(STATUS).encode(), status);
    assert_eq!(connections(1, [7, 258].into_iter()), b"\x84\0\x02\0\x01\0\0\0\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
    assert_eq!(FromDaemon::Drain.encode(), b"\x86\0\0\0\0\0\0\0");
}

#[test]
fn all_that_is_said_is_understood() {
    let worker = [
        FromWorker::Hello { version: 7 },
        FromWorker::Listen { index: 1, backlog: 2, address: "/run/x.sock" },
        FromWorker::Close { index: 4 },
        FromWorker::Status(STATUS),
        FromWorker::Refuse { number: u64::MAX },
        FromWorker::Ready,
        FromWorker::Drained,
    ];
    for said in worker {
        let mut packet = said.encode();
        assert_eq!(FromWorker::decode(&packet), Ok(said));
        assert_eq!(FromDaemon::decode(&packet), Err(Unread::Unknown), "each side has its own kinds");
        if !matches!(said, FromWorker::Listen { .. }) {
            packet.extend_from_slice(b"of a later version");
            assert_eq!(FromWorker::decode(&packet), Ok(said));
        }
    }
    let daemon = [
        FromDaemon::Welcome { version: 1, most: 16 },
        FromDaemon::Unwelcome { oldest: 1, newest: 3 },
        FromDaemon::Listening { index: 1, errno: 98, address: "" },
        FromDaemon::Connections { index: 1, numbers: (1..=MOST as u64).collect() },
        FromDaemon::Sync { token: 5 },
        FromDaemon::Drain,
    ];
    for said in daemon {
        let packet = said.encode();
        assert!(packet.len() <= PACKET);
        assert_eq!(FromDaemon::decode(&packet), Ok(said));
    }
}

#[test]
fn what_is_cut_off_or_strange_is_told_from_what_is_new() {
    let whole = FromWorker::Status(STATUS).encode();
    for length in 0..whole.len() {
        assert_eq!(FromWorker::decode(&whole[..length]), Err(Unread::Garbage), "{length} bytes");
    }
    let whole = FromDaemon::Connections { index: 0, numbers: vec![1, 2] }.encode();
    assert_eq!(FromDaemon::decode(&whole[..whole.len() - 1]), Err(Unread::Garbage));
    assert_eq!(FromWorker::decode(b"\x01\0\x01\0HTTP"), Err(Unread::Garbage));
    assert_eq!(FromWorker::decode(b"\x02\0\0\0\0\0\0\0\xff"), Err(Unread::Garbage));
    assert_eq!(FromWorker::decode(b"GET / HTTP/1.1"), Err(Unread::Unknown));
}
