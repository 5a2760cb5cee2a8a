//! All the ways in which programs listen.

use std::collections::HashSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use nix::sys::signal::Signal;

use super::{Fixture, PYTHON, possible, skip, there};
use crate::support::eventually::WAIT_LIMIT;
use crate::support::ports::free_ports;
use crate::support::{Home, app, eventually, processes};

fn ask(address: SocketAddr) -> Result<i32, String> {
    let mut said = String::new();
    let mut client = TcpStream::connect(address).map_err(|error| error.to_string())?;
    client.set_read_timeout(Some(WAIT_LIMIT)).map_err(|error| error.to_string())?;
    client.read_to_string(&mut said).map_err(|error| error.to_string())?;
    said.trim().parse().map_err(|_| format!("{said:?}"))
}

fn ask_by_datagram(address: SocketAddr) -> Result<i32, String> {
    let client = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    client.set_read_timeout(Some(WAIT_LIMIT)).map_err(|error| error.to_string())?;
    client.send_to(b"?", address).map_err(|error| error.to_string())?;
    let mut buffer = [0; 100];
    let count = client.recv(&mut buffer).map_err(|error| error.to_string())?;
    String::from_utf8_lossy(&buffer[..count]).trim().parse().map_err(|_| "no pid".to_owned())
}

/// Waits until both workers have answered at this address.
fn both_answer(address: &str, ask: fn(SocketAddr) -> Result<i32, String>) {
    let address: SocketAddr = address.parse().expect("an address");
    let mut seen = HashSet::new();
    eventually(&format!("both answer at {address}"), || {
        seen.insert(ask(address)?);
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    for _ in 0..20 {
        seen.insert(ask(address).expect("no connection is refused"));
    }
    assert_eq!(seen.len(), 2, "{address}");
}

#[test]
fn every_way_to_listen_is_shared_and_survives_a_reload() {
    let home = Home::new();
    if !there(PYTHON) || !possible(&home) {
        return;
    }
    let base = free_ports(7);
    home.serve(base, &format!("{} --interpreter {PYTHON} -n many -i 2", app("share/many.py")));
    let ipv6 = TcpListener::bind("[::1]:0").is_ok() || skip("no IPv6");
    for _ in 0..2 {
        for port in [base, base + 1, base + 2, base + 3, base + 5, base + 6] {
            both_answer(&format!("127.0.0.1:{port}"), ask);
        }
        for port in [base + 1, base + 2] {
            if ipv6 {
                both_answer(&format!("[::1]:{port}"), ask);
            }
        }
        both_answer(&format!("127.0.0.1:{}", base + 4), ask_by_datagram);
        home.ok("reload many");
        crate::crash::kill_god(&home);
    }
    let udp = format!("udp 127.0.0.1:{} (a queue each, by client, 2 workers)", base + 4);
    home.ok("describe 0").says(&udp);
}

#[test]
fn a_worker_that_closed_its_socket_gets_no_connection() {
    let words = format!("{} --interpreter {PYTHON} -i 2 --merge-logs", app("share/closes.py"));
    let Some(fixture) = there(PYTHON).then(|| Fixture::new(&words)).flatten() else { return };
    let closing = fixture.online(2)[0].pid;
    let address = SocketAddr::from(([127, 0, 0, 1], fixture.port));
    both_answer(&address.to_string(), ask);
    processes::signal(closing, Signal::SIGUSR1);
    fixture.home.logged("it-out.log", "closed");
    // Some of these connections are in the queue of the worker that no longer accepts.
    let clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).expect("it is open")).collect();
    let described = || fixture.home.ok("describe it").out;
    eventually("the closed socket is noticed", || {
        if described().contains(", 1 worker") { Ok(()) } else { Err(described()) }
    });
    for _ in 0..20 {
        assert_ne!(ask(address), Ok(closing));
    }
    // Where the kernel does not migrate connections, the successor of the worker serves them.
    processes::signal(closing, Signal::SIGTERM);
    for mut client in clients {
        let mut said = String::new();
        client.set_read_timeout(Some(WAIT_LIMIT)).expect("a socket");
        client.read_to_string(&mut said).expect("no connection is reset");
        assert!(said.trim().parse::<i32>().is_ok(), "{said:?}");
    }
}
