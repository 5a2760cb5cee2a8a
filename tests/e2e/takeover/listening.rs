//! All the ways in which programs listen.

use std::collections::HashSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::{PYTHON, possible, skip, there};
use crate::support::eventually::PATIENCE;
use crate::support::ports::free_ports;
use crate::support::{Home, app, eventually};

fn ask(address: SocketAddr) -> Result<i32, String> {
    let mut said = String::new();
    let mut client = TcpStream::connect(address).map_err(|error| error.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    client.read_to_string(&mut said).map_err(|error| error.to_string())?;
    said.trim().parse().map_err(|_| format!("{said:?}"))
}

fn ask_by_datagram(address: SocketAddr) -> Result<i32, String> {
    let client = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    client.send_to(b"?", address).map_err(|error| error.to_string())?;
    let mut buffer = [0; 100];
    let count = client.recv(&mut buffer).map_err(|error| error.to_string())?;
    String::from_utf8_lossy(&buffer[..count]).trim().parse().map_err(|_| "no pid".to_owned())
}

/// Both workers answer there, sooner or later.
fn both_answer(address: &str, ask: fn(SocketAddr) -> Result<i32, String>) {
    let address: SocketAddr = address.parse().expect("an address");
    let mut seen = HashSet::new();
    eventually(&format!("both answer at {address}"), || {
        seen.insert(ask(address)?);
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    for _ in 0..20 {
        seen.insert(ask(address).expect("nobody is refused"));
    }
    assert_eq!(seen.len(), 2, "{address}");
}

#[test]
fn every_way_is_shared_and_survives_a_reload() {
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
    home.ok("describe 0").says("udp 127.0.0.1").says("a queue each");
}
