//! The layout of each message, and packets that are no messages.

use super::*;

const STATUS: Status = Status { open: 2, credit: 16, taken: 0x0102_0304_0506_0708, token: 9 };

#[test]
fn packets_are_as_the_tables_define_them() {
    assert_eq!(FromWorker::Hello { version: 1 }.encode(), b"\x01\0\x01\0PMR1");
    let listen = FromWorker::Listen { index: 3, backlog: 128, address: "[::]:80" };
    assert_eq!(listen.encode(), b"\x02\0\x80\0\x03\0\0\0[::]:80");
    let status = b"\x04\0\0\0\x02\0\0\0\x10\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0";
    assert_eq!(FromWorker::Status(STATUS).encode(), status);
    assert_eq!(connections(1, [7, 258].into_iter()), b"\x84\0\x02\0\x01\0\0\0\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
    assert_eq!(FromDaemon::Drain.encode(), b"\x86\0\0\0\0\0\0\0");
}

#[test]
fn every_message_is_decoded_as_it_was_encoded() {
    let worker = [
        FromWorker::Hello { version: 7 },
        FromWorker::Listen { index: 1, backlog: 2, address: "/run/x.sock" },
        FromWorker::Close { index: 4 },
        FromWorker::Status(STATUS),
        FromWorker::Refuse { number: u64::MAX },
        FromWorker::Ready,
        FromWorker::Drained,
    ];
    for message in worker {
        let mut packet = message.encode();
        assert_eq!(FromWorker::decode(&packet), Ok(message));
        assert_eq!(FromDaemon::decode(&packet), Err(DecodeError::Unknown), "each side has its own kinds");
        if !matches!(message, FromWorker::Listen { .. }) {
            packet.extend_from_slice(b"of a later version");
            assert_eq!(FromWorker::decode(&packet), Ok(message));
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
    for message in daemon {
        let packet = message.encode();
        assert!(packet.len() <= PACKET);
        assert_eq!(FromDaemon::decode(&packet), Ok(message));
    }
}

#[test]
fn a_damaged_packet_is_garbage_and_one_of_a_new_kind_is_unknown() {
    let whole = FromWorker::Status(STATUS).encode();
    for length in 0..whole.len() {
        assert_eq!(FromWorker::decode(&whole[..length]), Err(DecodeError::Garbage), "{length} bytes");
    }
    let whole = FromDaemon::Connections { index: 0, numbers: vec![1, 2] }.encode();
    assert_eq!(FromDaemon::decode(&whole[..whole.len() - 1]), Err(DecodeError::Garbage));
    assert_eq!(FromWorker::decode(b"\x01\0\x01\0HTTP"), Err(DecodeError::Garbage));
    assert_eq!(FromWorker::decode(b"\x02\0\0\0\0\0\0\0\xff"), Err(DecodeError::Garbage));
    assert_eq!(FromWorker::decode(b"GET / HTTP/1.1"), Err(DecodeError::Unknown));
}
