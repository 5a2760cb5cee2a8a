//! Finding out when a worker accepts, of a program that does not say so.
//!
//! Before it serves, its queue is out of rotation. For the blink of an eye it is the only one in it, and we connect; the
//! kernel completes that at once. When the connection has an owner, it has been accepted, and we close it: the program
//! sees a client who leaves without a word. Where the kernel's own hash deals connections out, nobody can be steered to,
//! and there is no knocking; then, as for Unix paths and UDP, a worker counts as ready when it has lived for
//! `listen_timeout`.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::State;
use crate::cluster::Notice;
use crate::os::{diag, socket};
use crate::protocol::Run;

/// How often is looked, at first; then ever more seldom.
const OFTEN: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_millis(100);

/// A connection of ours to a worker.
struct Knock {
    /// Where the worker is.
    address: SocketAddr,
    /// Our end, and its address.
    _stream: OwnedFd,
    from: SocketAddr,
}

/// Tells [`Notice::Listening`] when the worker has accepted at one of its addresses.
pub(super) fn start(state: &Rc<RefCell<State>>, run: Run) {
    let Some(knock) = state.borrow().knock(run) else { return };
    let task = tokio::task::spawn_local(wait(Rc::downgrade(state), run, knock));
    if let Some(worker) = state.borrow_mut().workers.get_mut(&run) {
        worker.knocking = Some(task.abort_handle());
    }
}

impl State {
    fn knock(&self, run: Run) -> Option<Knock> {
        self.queues.held_by(run).into_iter().filter(|(key, _)| key.tcp).find_map(|(key, inode)| {
            let to = reachable(key.address);
            let (stream, from) = self.queues.steered_to(inode, || socket::connect_to(to))?.ok()?;
            Some(Knock { address: key.address, _stream: stream, from })
        })
    }
}

/// How a client on this machine gets there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Ends when the knock was answered, or with the worker.
async fn wait(state: Weak<RefCell<State>>, run: Run, knock: Knock) {
    let mut pause = OFTEN;
    while !is_accepted(&knock) {
        sleep(pause).await;
        pause = (pause * 5 / 4).min(SELDOM);
    }
    if let Some(state) = state.upgrade() {
        state.borrow().tell(Notice::Listening { run, address: knock.address.to_string() });
    }
}

/// While it waits it is open and belongs to nobody. It may be closed again by the time we look.
fn is_accepted(knock: &Knock) -> bool {
    let Ok(all) = diag::connections(knock.address.port()) else { return false };
    let ours = |connection: &&diag::Connection| connection.peer.port() == knock.from.port();
    !all.iter().filter(ours).any(|connection| connection.inode == 0 && connection.is_open())
}
