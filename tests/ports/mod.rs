//! Free ports for servers of tests. Nothing listens on such a port, the kernel assigns it to no client, and no other
//! test gets it, in whatever process that test runs.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// First port of the range. The range ends below the ports that the kernel assigns by itself.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// One abstract Unix socket for each port that was given away: only one process at a time can bind its name. Such names
/// belong to the network namespace, as ports do. The kernel frees them when the process ends.
static MARKS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Reserves `count` consecutive ports until this process ends, and returns the first.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(211);
    loop {
        let next = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let at = FIRST + start.wrapping_add(next) % (COUNT - u32::from(count));
        let first = u16::try_from(at).expect("32,000 is a port");
        if let Some(marks) = (first..first + count).map(mark).collect::<Option<Vec<_>>>() {
            MARKS.lock().expect("no thread panics while it holds the lock").extend(marks);
            return first;
        }
    }
}

/// Reserves one port until this process ends.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// Binds the mark of a port. `None` if another process has the mark, or the port is in use.
fn mark(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("pmr-test-port-{port}")).expect("it is short");
    let mark = UnixListener::bind_addr(&name).ok()?;
    let is_free = |address: &str| TcpListener::bind((address, port)).is_ok();
    let has_ipv6 = TcpListener::bind(("::1", 0)).is_ok();
    let free = is_free("127.0.0.1") && is_free("0.0.0.0") && (!has_ipv6 || is_free("::"));
    (free && UdpSocket::bind(("0.0.0.0", port)).is_ok()).then_some(mark)
}
