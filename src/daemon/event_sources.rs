//! The sources of everything that God handles: channels from other tasks, and signals.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::rpc::command::Command;
use super::runs::health::Finding;
use super::runs::notify::NotifyMessage;
use super::runs::table::End;
use crate::cluster::Notice;
use crate::keeper::exits::Inbox;

/// All sources, owned by the loop of God.
pub struct Sources {
    /// Those other than signals.
    pub channels: Channels,
    pub(crate) terminate: Signal,
    pub(crate) interrupt: Signal,
    pub(crate) quit: Signal,
    pub(crate) hangup: Signal,
    pub(crate) reopen: Signal,
    /// True if a hang-up ends the daemon: it runs in a terminal or under an init system.
    pub(crate) foreground: bool,
}

/// Channels from other tasks and threads of the daemon.
pub struct Channels {
    /// Requests of RPC handlers, and new subscribers to events.
    pub commands: mpsc::Receiver<Command>,
    /// What clusters report of workers and listeners.
    pub notices: mpsc::UnboundedReceiver<Notice>,
    /// Messages that programs sent to `NOTIFY_SOCKET`.
    pub notifications: mpsc::Receiver<NotifyMessage>,
    /// Findings of health checks.
    pub findings: mpsc::Receiver<Finding>,
    /// How children of the keeper ended.
    pub exits: Inbox,
    /// How main processes that are no children of the keeper ended.
    pub ends: mpsc::UnboundedReceiver<End>,
    /// Completes when the keeper has died.
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
