//! Detects when a worker accepts connections. No program reports that by itself: one that listens may still be loading,
//! or may never accept.
//!
//! While the worker's queue is out of rotation, the daemon makes a connection of its own to the queue; the kernel completes
//! that at once. When the connection has an owner, the worker has accepted it, and the daemon closes it: the program sees
//! a client that leaves without sending anything. Nothing can be found out where only the kernel's hash deals connections,
//! where several workers accept from one queue, and of a socket with `TCP_DEFER_ACCEPT`, which counts as accepting.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::queues::Queues;
use crate::cluster::own_connections::Unreachable;
use crate::os::net::diag;
use crate::os::net::reuseport::Key;
use crate::protocol::Run;

/// From one look at the worker's queue to the next, at first; then it grows.
const FAST_POLL: Duration = Duration::from_millis(5);
const SLOW_POLL: Duration = Duration::from_millis(100);
/// From one look at the connection itself to the next, while others wait with it: that costs a list of all connections of
/// the port.
const CONNECTION_POLL: Duration = Duration::from_secs(1);

/// Waits until the worker has accepted a connection of the daemon's own at this address, or at the first that it bound, and
/// returns the address. `queues` are those of its app; `None` from it, when there are none any more, ends the wait.
///
/// # Errors
/// Why this worker cannot be reached alone. It says nothing about whether the worker accepts.
pub(crate) async fn accepted(
    queues: impl Fn() -> Option<Queues>,
    run: Run,
    at: Option<Key>,
) -> Option<Result<SocketAddr, Unreachable>> {
    let direct = loop {
        // The future holds no queues, so they can close while it waits.
        let connecting = queues()?.connect_to(run, at);
        match connecting.await {
            Ok(direct) => break direct,
            Err(Unreachable::NotNow) => sleep(FAST_POLL).await,
            Err(why) => return Some(Err(why)),
        }
    };
    let from = match direct.connection.stream.local_addr() {
        Ok(from) => from,
        Err(error) => return Some(Err(error.into())),
    };
    let (mut pause, mut look_at) = (FAST_POLL, Instant::now());
    loop {
        // First of all, so that the kernel has put the connection into the queue.
        sleep(pause).await;
        if queues().and_then(|queues| queues.waiting_at(run, at)) == Some(0) {
            break;
        }
        if Instant::now() >= look_at {
            if is_accepted(direct.at, from) {
                break;
            }
            look_at = Instant::now() + CONNECTION_POLL;
        }
        pause = (pause * 5 / 4).min(SLOW_POLL);
    }
    Some(Ok(direct.at))
}

/// While the connection waits it is open and has no owner. It may be closed again by the time of the look.
fn is_accepted(at: SocketAddr, from: SocketAddr) -> bool {
    let Ok(all) = diag::connections(at.port()) else { return false };
    let own = |connection: &&diag::Connection| connection.peer.port() == from.port();
    !all.iter().filter(own).any(|connection| connection.inode == 0 && connection.is_open())
}
