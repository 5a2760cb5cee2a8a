//! One address that an app listens on through the daemon: its socket, its holders, and the connections that wait there.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Connection;
use crate::cluster::balancer::ListenerId;
use crate::cluster::persist::KeptFd;
use crate::cluster::waiting::Shedder;
use crate::os::clock;
use crate::os::net::diag;
use crate::os::net::socket::{Listening, LocalAddress, SocketFile};
use crate::protocol::{ListenerInfo, Run};
use crate::spec::Balance;

/// How long a listener stays open after the last worker closed it.
const CLOSE_DELAY: Duration = Duration::from_secs(1);
/// How long a listener without workers stays open while others of the app serve.
pub(crate) const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);

/// One address the app listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    /// The address and options that workers requested: equal requests share one listener.
    pub(crate) name: String,
    /// The unique name that workers know it by, as JSON.
    pub(crate) key: String,
    pub(crate) address: LocalAddress,
    /// Its entry in the ledger. Dropped before the socket, so that the ledger never names a closed descriptor.
    pub(crate) kept: KeptFd,
    pub(crate) endpoint: Endpoint,
    /// The first worker's TLS ticket keys, for all workers.
    pub(crate) data: Option<Box<RawValue>>,
    /// The workers that listen on it.
    pub(crate) holders: Vec<Holder>,
    /// Set while no worker listens on it.
    pub(crate) vacant: Option<Vacant>,
}

/// A worker that listens on a listener.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) run: Run,
    /// The number of its request, so that the same request is recognized when it is read again.
    #[serde(rename = "asked")]
    pub(crate) request: u64,
}

/// Since when and why no worker listens on a listener.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Vacant {
    /// In ms of the monotonic clock.
    since: u64,
    /// The worker that closed it while it went on running, if one did.
    #[serde(default)]
    pub(crate) closed_by: Option<Run>,
}

impl Vacant {
    /// Vacant from now on.
    pub(crate) fn now(closed_by: Option<Run>) -> Vacant {
        Vacant { since: clock::monotonic_ms(), closed_by }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(clock::monotonic_ms().saturating_sub(self.since))
    }

    /// How long the listener stays open.
    pub(crate) fn timeout(&self) -> Duration {
        if self.closed_by.is_some() { CLOSE_DELAY } else { ORPHAN_TIMEOUT }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() >= self.timeout()
    }
}

/// How connections get to the workers.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// The daemon accepts connections and deals them out.
    Dealt(Dealt),
    /// Each worker accepts for itself.
    Shared {
        /// The daemon's copy keeps the accept queue alive.
        socket: Rc<OwnedFd>,
        /// True for datagrams.
        udp: bool,
        /// The socket file of a Unix path.
        file: Option<SocketFile>,
        /// Rejects connections that wait too long while no worker accepts.
        shedder: Shedder,
    },
}

/// A socket whose connections the daemon deals out.
#[derive(Debug)]
pub(crate) struct Dealt {
    pub(crate) socket: Rc<AsyncFd<Listening>>,
    /// Accepted connections that no worker could take yet; they go before new ones.
    pub(crate) waiting: Vec<Connection>,
    /// All workers refused a connection: nothing is tried before that time unless `changed` is notified.
    pub(crate) retry_at: Option<Instant>,
    /// The pause after the next refusal by all.
    pub(crate) backoff: Duration,
    /// The listener's task waits for a worker with room.
    pub(crate) idle: bool,
    /// Wakes the listener's task.
    pub(crate) changed: Rc<Notify>,
    pub(crate) _acceptor: AbortOnDropHandle<()>,
}

impl Endpoint {
    /// Each worker gets a copy of the socket. The daemon's copy keeps the accept queue, and the socket file.
    pub(crate) fn share(listening: Listening) -> Endpoint {
        let (socket, file) = listening.into_parts();
        Endpoint::Shared { socket: Rc::new(socket), udp: false, file, shedder: Shedder::default() }
    }

    /// The same for datagrams.
    pub(crate) fn datagrams(socket: OwnedFd) -> Endpoint {
        Endpoint::Shared { socket: Rc::new(socket), udp: true, file: None, shedder: Shedder::default() }
    }

    pub(crate) fn is_dealt(&self) -> bool {
        matches!(self, Endpoint::Dealt(_))
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Endpoint::Dealt(dealt) => dealt.socket.get_ref().as_fd(),
            Endpoint::Shared { socket, .. } => socket.as_fd(),
        }
    }

    /// The socket file of a Unix path.
    pub(crate) fn file(&self) -> Option<&SocketFile> {
        match self {
            Endpoint::Dealt(dealt) => dealt.socket.get_ref().file(),
            Endpoint::Shared { file, .. } => file.as_ref(),
        }
    }
}

impl Dealt {
    /// The address to report to workers; `None` for a Unix path.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self.socket.get_ref().address() {
            LocalAddress::Ip(address) => Some(*address),
            LocalAddress::Path(_) => None,
        }
    }
}

impl Listener {
    pub(crate) fn dealt(&mut self) -> Option<&mut Dealt> {
        match &mut self.endpoint {
            Endpoint::Dealt(dealt) => Some(dealt),
            Endpoint::Shared { .. } => None,
        }
    }

    /// How many accepted connections wait in the daemon.
    pub(crate) fn waiting(&self) -> usize {
        match &self.endpoint {
            Endpoint::Dealt(dealt) => dealt.waiting.len(),
            Endpoint::Shared { .. } => 0,
        }
    }

    pub(crate) fn is_held_by(&self, run: Run) -> bool {
        self.holders.iter().any(|holder| holder.run == run)
    }

    /// The number of the request by which this worker came to listen here; 0 if it does not.
    pub(crate) fn request_number(&self, run: Run) -> u32 {
        let holder = self.holders.iter().find(|holder| holder.run == run);
        holder.and_then(|holder| u32::try_from(holder.request).ok()).unwrap_or(0)
    }

    /// True if this worker is dealt TCP connections here.
    pub(crate) fn deals_tcp_to(&self, run: Run) -> bool {
        let tcp = matches!((&self.endpoint, &self.address), (Endpoint::Dealt(_), LocalAddress::Ip(_)));
        tcp && self.is_held_by(run)
    }

    /// The listener as users see it. `on_channel` is true for a worker that gets its connections on pmr's own channel.
    pub(crate) fn info(&self, balance: Balance, on_channel: impl Fn(Run) -> bool) -> ListenerInfo {
        let (mechanism, prefix) = match &self.endpoint {
            Endpoint::Dealt(_) => (balance.in_words(), ""),
            Endpoint::Shared { udp: false, .. } => ("shared handle", ""),
            Endpoint::Shared { udp: true, .. } => ("shared handle", "udp "),
        };
        let channel =
            if self.holders.iter().any(|holder| on_channel(holder.run)) { ", on pmr's own channel" } else { "" };
        ListenerInfo {
            address: format!("{prefix}{}", self.address),
            mechanism: format!("{mechanism}{channel}"),
            workers: u32::try_from(self.holders.len()).unwrap_or(u32::MAX),
            why: None,
            waiting: diag::waiting(self.endpoint.socket()).unwrap_or(0),
            dealt: None,
        }
    }
}
