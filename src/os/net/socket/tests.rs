//! Sockets as servers and their clients see them.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::*;

fn port_of(listening: &Listening) -> u16 {
    match listening.address() {
        LocalAddress::Ip(address) => address.port(),
        LocalAddress::Path(_) => panic!("not IP"),
    }
}

fn unix(path: &Path) -> Place {
    Place::Unix { path: path.to_owned(), readable_all: false, writable_all: true }
}

#[test]
fn any_address_takes_both_stacks_and_a_second_one_is_refused() {
    let first = Listening::open(&Place::AnyAddress { port: 0 }, 0).unwrap();
    let port = port_of(&first);
    assert_ne!(port, 0);
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // The last packet of the handshake may be on its way.
    let start = std::time::Instant::now();
    while let Err(error) = first.accept() {
        assert!(error.kind() == io::ErrorKind::WouldBlock && start.elapsed().as_secs() < 60, "{error}");
        std::thread::yield_now();
    }
    assert_eq!(first.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let second = Listening::open(&Place::AnyAddress { port }, 0).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn v6only_leaves_the_other_stack_alone() {
    let place = |port| Place::Tcp { address: format!("[::]:{port}").parse().unwrap(), v6only: true };
    let Ok(first) = Listening::open(&place(0), 0) else { return };
    assert!(TcpStream::connect(("127.0.0.1", port_of(&first))).is_err());
}

#[test]
fn a_path_in_use_is_refused_a_stale_one_replaced_and_ours_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves a stale file behind");
    let first = Listening::open(&unix(&path), 0).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o222, 0o222);
    assert_eq!(Listening::open(&unix(&path), 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    drop(first);
    assert!(!path.exists());
}

#[test]
fn a_path_taken_over_by_another_socket_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let first = Listening::open(&unix(&path), 0).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn a_plain_file_in_the_way_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert_eq!(Listening::open(&unix(&path), 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn udp_tells_its_port() {
    let (_socket, address) = bind_udp("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
    assert_ne!(address.port(), 0);
    assert!(bind_udp(address, false, false).is_err());
}
