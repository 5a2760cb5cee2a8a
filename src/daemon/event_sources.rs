//! What God listens to, in one place.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::god::Command;
use super::runs::health::Finding;
use super::runs::notify::NotifyMessage;
use super::runs::table::End;
use crate::cluster::Notice;
use crate::keeper::exits::Inbox;

/// What God listens to.
pub struct Sources {
    /// What others tell him.
    pub channels: Channels,
    pub(crate) terminate: Signal,
    pub(crate) interrupt: Signal,
    pub(crate) quit: Signal,
    pub(crate) hangup: Signal,
    pub(crate) reopen: Signal,
    /// Whether the terminal that hangs up is ours.
    pub(crate) foreground: bool,
}

/// All but the signals.
pub struct Channels {
    /// From RPC handlers and socket servers.
    pub commands: mpsc::Receiver<Command>,
    /// From clusters.
    pub notices: mpsc::UnboundedReceiver<Notice>,
    /// What programs say to `NOTIFY_SOCKET`.
    pub heard: mpsc::Receiver<NotifyMessage>,
    /// From health checks.
    pub findings: mpsc::Receiver<Finding>,
    /// How children of the keeper ended.
    pub exits: Inbox,
    /// How other processes ended.
    pub ends: mpsc::UnboundedReceiver<End>,
    /// Comes when the keeper has died.
    pub orphaned: oneshot::Receiver<()>,
}

impl Sources {
    /// Installs the signal handlers.
    pub fn new(channels: Channels, foreground: bool) -> std::io::Result<Sources> {
        Ok(Sources {
            channels,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            foreground,
            reopen: signal(SignalKind::user_defined2())?,
        })
    }
}
