//! One worker with a channel: what is known of it, and how connections get to it. Whichever way they go, a connection
//! stays open in the daemon until the worker has confirmed that it took it; what is queued for the worker can be
//! cancelled; and a channel of an earlier daemon begins with a sync message that shows which connections were in
//! flight.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::channel::packets;
use super::connection::Connection;
use super::listener::Listener;
use super::node::channel::Channel;
use super::node::outgoing::Attachment;
use super::node::reply;
use crate::protocol::Run;
use crate::protocol::channel::FromDaemon;

/// A worker with a channel.
#[derive(Debug)]
pub(crate) struct Member {
    /// The worker's number among the app's processes.
    pub(crate) instance: u32,
    /// Carries Node's internal messages and the app's own.
    pub(crate) ipc: Rc<Channel>,
    pub(crate) transport: Transport,
    pub(crate) life: watch::Sender<Life>,
    /// `process.version`, once the preload module has sent its hello: the worker can drain.
    pub(crate) node_version: Option<String>,
    /// The worker reports how many connections are open in it. Connections that it takes between two reports are added
    /// by the daemon.
    pub(crate) reports_open: bool,
    /// [`reply::DRAIN`] was sent.
    pub(crate) asked_to_drain: bool,
    /// The worker was sent a disconnect, or is about to be.
    pub(crate) asked_to_disconnect: bool,
    /// The first address that it reported to listen on. Only the first is kept: some workers go through many ports.
    pub(crate) listening: Option<String>,
    /// The app sent `ready`.
    pub(crate) ready: bool,
    /// The worker sent a file that was acknowledged, and its line is still in the channel.
    pub(crate) file_acknowledged: bool,
    /// Connections handed over and not answered for, with their message numbers; a handful at most.
    pub(crate) pending: Vec<(u64, Connection)>,
    /// Connections it has taken so far.
    pub(crate) connections: u64,
    /// Notices of its messages that the owner has not handled yet; see [`super::backpressure`].
    pub(crate) unhandled: watch::Sender<u32>,
    /// An unreadable message was logged. Only the first one is.
    pub(crate) warned_unreadable: bool,
    /// The last message number of the cluster.
    pub(crate) seq: Rc<Cell<u64>>,
    pub(crate) _reader: AbortOnDropHandle<()>,
}

/// How far a worker has got in its shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// It serves.
    Serving,
    /// Its last connection has ended.
    Drained,
    /// Its channel is closed.
    Ended,
}

/// The way by which connections get to a worker.
#[derive(Debug)]
pub(crate) enum Transport {
    /// None: the worker listens by itself, or not at all.
    None,
    /// The IPC channel, by Node's cluster protocol.
    Node,
    /// A channel of pmr's own protocol.
    Channel(PmrChannel),
}

/// A worker's channel of pmr's own protocol, and its state.
#[derive(Debug)]
pub(crate) struct PmrChannel {
    pub(crate) channel: Rc<packets::Channel>,
    /// The worker sent a hello of a version that this daemon speaks. Until then it counts as one that listens by
    /// itself.
    pub(crate) welcomed: bool,
    /// The token of a SYNC that is not answered yet.
    pub(crate) sync_token: Option<u64>,
    pub(crate) _reader: AbortOnDropHandle<()>,
}

impl Transport {
    /// The channel of pmr's own protocol, if the worker has one.
    pub(crate) fn pmr(&self) -> Option<&PmrChannel> {
        match self {
            Transport::Channel(pmr) => Some(pmr),
            Transport::None | Transport::Node => None,
        }
    }

    pub(crate) fn pmr_mut(&mut self) -> Option<&mut PmrChannel> {
        match self {
            Transport::Channel(pmr) => Some(pmr),
            Transport::None | Transport::Node => None,
        }
    }
}

impl Member {
    /// A worker that has just joined.
    pub(crate) fn new(
        instance: u32,
        ipc: Rc<Channel>,
        transport: Transport,
        seq: Rc<Cell<u64>>,
        reader: AbortOnDropHandle<()>,
    ) -> Member {
        Member {
            instance,
            ipc,
            transport,
            life: watch::Sender::new(Life::Serving),
            node_version: None,
            reports_open: false,
            asked_to_drain: false,
            asked_to_disconnect: false,
            listening: None,
            ready: false,
            file_acknowledged: false,
            pending: Vec::new(),
            connections: 0,
            unhandled: watch::Sender::new(0),
            warned_unreadable: false,
            seq,
            _reader: reader,
        }
    }

    /// The number of the next message. No other message in the cluster has it, nor had one of an earlier daemon.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq.set(self.seq.get() + 1);
        self.seq.get()
    }

    /// Sends a line that carries no file.
    pub(crate) fn send_line(&self, line: impl Into<String>) {
        self.ipc.send(line, None);
    }

    /// Sends a line with a file that is not a connection.
    pub(crate) fn send_file(&mut self, line: String, file: Attachment) {
        self.ensure_synced();
        self.ipc.send(line, Some(file));
    }

    /// Removes a pending connection, by the number of its hand-over.
    pub(crate) fn withdraw(&mut self, seq: u64) -> Option<Connection> {
        let at = self.pending.iter().position(|(number, _)| *number == seq)?;
        Some(self.pending.swap_remove(at).1)
    }

    /// True if connections are passed to this worker.
    pub(crate) fn takes_connections(&self) -> bool {
        match &self.transport {
            Transport::None => false,
            Transport::Node => true,
            Transport::Channel(pmr) => pmr.welcomed,
        }
    }

    /// Hands over a connection. On pmr's own channel it is sent with the next [`Member::flush`].
    pub(crate) fn hand(&mut self, run: Run, listener: &Listener, connection: Connection) {
        self.ensure_synced();
        let seq = self.next_seq();
        let socket = Rc::clone(&connection.socket);
        match &self.transport {
            // The balancer knows no such worker.
            Transport::None => {}
            Transport::Node => {
                let line = reply::new_connection(&listener.key, seq);
                self.ipc.send(line, Some(Attachment::Connection { socket, seq }));
            }
            Transport::Channel(pmr) => pmr.channel.add(listener.request_number(run), seq, socket),
        }
        self.pending.push((seq, connection));
    }

    /// Sends the connections that were handed over and wait to be sent together.
    pub(crate) fn flush(&self) {
        if let Transport::Channel(pmr) = &self.transport {
            pmr.channel.flush();
        }
    }

    /// Cancels a connection that is not sent yet; false if it is in flight.
    pub(crate) fn cancel(&self, seq: u64) -> bool {
        match &self.transport {
            Transport::None => false,
            Transport::Node => self.ipc.cancel(seq),
            Transport::Channel(pmr) => pmr.channel.cancel(seq),
        }
    }

    /// Discards what is queued, since the worker reads no more.
    pub(crate) fn discard_queue(&self) {
        self.ipc.discard_queue();
        if let Transport::Channel(pmr) = &self.transport {
            pmr.channel.discard_queue();
        }
    }

    /// Releases the channels from the ledger: the next daemon does not need them.
    pub(crate) fn release(&self) {
        self.ipc.release();
        if let Transport::Channel(pmr) = &self.transport {
            pmr.channel.release();
        }
    }

    /// Sends the sync message of a recovered IPC channel, if it was not sent yet.
    pub(crate) fn ensure_synced(&mut self) {
        if self.ipc.needs_sync() && matches!(self.transport, Transport::Node) {
            let seq = self.next_seq();
            self.ipc.sync(seq);
        }
    }

    /// Sends a SYNC on a recovered channel of pmr's own protocol.
    pub(crate) fn send_sync(&mut self) {
        let token = self.next_seq();
        if let Transport::Channel(pmr) = &mut self.transport {
            pmr.sync_token = Some(token);
            pmr.channel.send_message(&FromDaemon::Sync { token });
        }
    }

    /// Tells the worker to disconnect.
    pub(crate) fn send_disconnect(&mut self) {
        let seq = self.next_seq();
        self.send_line(reply::disconnect(seq));
    }
}
