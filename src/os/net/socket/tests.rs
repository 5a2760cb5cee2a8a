//! Listening sockets and their files.

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
fn a_socket_on_all_addresses_accepts_both_ip_versions_and_a_second_one_is_refused() {
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
fn a_v6only_socket_accepts_no_ipv4() {
    let place = |port| Place::Tcp { address: format!("[::]:{port}").parse().unwrap(), v6only: true };
    let Ok(first) = Listening::open(&place(0), 0) else { return };
    assert!(TcpStream::connect(("127.0.0.1", port_of(&first))).is_err());
}

#[test]
fn a_path_in_use_is_refused_a_stale_file_is_replaced_and_the_own_one_is_removed() {
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
fn a_file_of_another_socket_at_the_same_path_stays() {
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
fn a_udp_socket_has_the_port_that_the_kernel_chose() {
    let (_socket, address) = bind_udp("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
    assert_ne!(address.port(), 0);
    assert!(bind_udp(address, false, false).is_err());
}
