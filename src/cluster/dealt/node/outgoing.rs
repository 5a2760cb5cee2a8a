//! What goes to one worker on its IPC channel: lines in order, some with a file, and when a file may go.
//!
//! Node reads 64 KiB at a time and keeps one file, so a second file may be in flight only while all unread bytes fit
//! well into one such read. What was read is known from the acknowledgements, which come in order, one for each file.
//!
//! A connection is marked as handed over right before the system call that sends it, and as waiting again if the call
//! did not take it. The call itself never sleeps, so a SIGKILL cannot interrupt it: it takes effect before the call or
//! after it. That leaves one doubt for the next daemon: of the connections marked as handed over, the last may not have
//! been sent. And the next daemon may read acknowledgements a second time that were handled but not taken out of the
//! channel yet. So a recovered channel is not in sync, and the first file on it is the *sync message*: a connection for
//! a listener that does not exist, which a worker refuses, in its turn. Nothing with a file follows before the sync
//! message is answered. By then every connection before it has been answered for or was never sent, and all
//! acknowledgements that come later are for later files.
//!
//! A line goes to the kernel whole (up to 32 KiB are taken at once or not at all), so the next daemon never finds half
//! a line. Of a longer message, which only the app's owner could want to send, half may be lost with the daemon.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::cluster::dealt::write_queue::Progress;
use crate::cluster::persist::AcceptedSocket;
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::protocol::Run;

/// Unread bytes up to which more than one file may be in flight: one read of Node's less a margin.
const ONE_READ: u64 = 48 << 10;
/// The most files in flight.
const MAX_FILES: usize = 16;

/// A file sent with a line. A connection stays open in the daemon until the worker has answered for it.
#[derive(Clone, Debug)]
pub(crate) enum Attachment {
    /// A client's connection.
    Connection {
        socket: Rc<AcceptedSocket>,
        /// The message number of the hand-over.
        seq: u64,
    },
    /// A socket that the worker uses by itself.
    Socket(Rc<OwnedFd>),
    /// The socket of the sync message, which the worker refuses.
    Sync,
}

/// Whether it is known which file an acknowledgement is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SyncState {
    /// It is known.
    #[default]
    Synced,
    /// The channel was recovered, and the sync message is still to be sent.
    NotSynced,
    /// The sync message is sent, or queued.
    Sent {
        /// Its message number.
        seq: u64,
        /// The position in the stream after it, once it is sent.
        end: u64,
    },
}

/// The queue of one worker's IPC channel.
#[derive(Debug)]
pub(crate) struct Outgoing {
    run: Run,
    queue: VecDeque<QueuedLine>,
    /// Bytes written since the channel was opened or recovered.
    written: u64,
    /// How many of them the worker has read for sure.
    read: u64,
    /// Files written and not acknowledged, the oldest first.
    in_flight: VecDeque<InFlight>,
    sync: SyncState,
}

#[derive(Debug)]
struct QueuedLine {
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    sent: usize,
    file: Option<Attachment>,
}

#[derive(Debug)]
struct InFlight {
    /// The position in the stream after the file's line.
    end: u64,
    /// The message number, if the file is a connection.
    connection: Option<u64>,
}

impl Outgoing {
    /// For a worker that was just started.
    pub(crate) fn new(run: Run) -> Outgoing {
        let sync = SyncState::Synced;
        Outgoing { run, queue: VecDeque::new(), written: 0, read: 0, in_flight: VecDeque::new(), sync }
    }

    /// For a worker that an earlier daemon wrote to.
    pub(crate) fn resumed(run: Run) -> Outgoing {
        Outgoing { sync: SyncState::NotSynced, ..Outgoing::new(run) }
    }

    /// Queues a line.
    pub(crate) fn add(&mut self, line: String, file: Option<Attachment>) {
        self.queue.push_back(QueuedLine { bytes: line.into_bytes(), sent: 0, file });
    }

    /// True if the sync message must be sent before any file.
    pub(crate) fn needs_sync(&self) -> bool {
        self.sync == SyncState::NotSynced
    }

    /// Queues the sync message.
    pub(crate) fn add_sync(&mut self, line: String, seq: u64) {
        self.sync = SyncState::Sent { seq, end: self.written };
        self.add(line, Some(Attachment::Sync));
    }

    /// True if this is the number of the sync message: all files before it are read.
    pub(crate) fn complete_sync(&mut self, answered: u64) -> bool {
        match self.sync {
            SyncState::Sent { seq, end } if seq == answered => {
                self.sync = SyncState::Synced;
                self.in_flight.clear();
                self.read = end;
                true
            }
            SyncState::Synced | SyncState::NotSynced | SyncState::Sent { .. } => false,
        }
    }

    /// The worker read the oldest file in flight, or reported that it did not arrive. Returns the message number, if
    /// the file is a connection. Before the sync message is answered, acknowledgements are ignored.
    pub(crate) fn acknowledged(&mut self) -> Option<u64> {
        if self.sync != SyncState::Synced {
            return None;
        }
        let oldest = self.in_flight.pop_front()?;
        self.read = oldest.end;
        oldest.connection
    }

    /// Cancels a connection that is not written yet; false if it is in flight.
    pub(crate) fn cancel(&mut self, connection: u64) -> bool {
        let before = self.queue.len();
        self.queue
            .retain(|line| line.sent > 0 || line.file.as_ref().and_then(Attachment::connection) != Some(connection));
        self.queue.len() < before
    }

    /// Discards what is not written.
    pub(crate) fn discard(&mut self) {
        self.queue.clear();
    }

    /// Writes as much as may be sent now.
    pub(crate) fn write(&mut self, socket: &OwnedFd) -> Progress {
        while let Some(mut line) = self.queue.pop_front() {
            let written = match self.blocked(socket, &line) {
                Some(progress) => Err(progress),
                None => self.write_line(socket, &mut line),
            };
            if let Err(progress) = written {
                self.queue.push_front(line);
                return progress;
            }
        }
        Progress::Done
    }

    fn write_line(&mut self, socket: &OwnedFd, line: &mut QueuedLine) -> Result<(), Progress> {
        while line.sent < line.bytes.len() {
            let rest = &line.bytes[line.sent..];
            let sent = match &line.file {
                Some(file) if line.sent == 0 => file.send(socket, rest, self.run),
                _ => fdpass::send(socket, rest, None),
            };
            match sent {
                Ok(count) => {
                    line.sent += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Progress::SocketFull),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if fdpass::is_shortage(&error) => return Err(Progress::RetryLater),
                // The worker's end is closed. The reader of the channel finds that out, too, and cleans up.
                Err(_) => {
                    self.queue.clear();
                    return Ok(());
                }
            }
        }
        self.sent(line.file.as_ref());
        Ok(())
    }

    fn sent(&mut self, file: Option<&Attachment>) {
        match (file, &mut self.sync) {
            (Some(Attachment::Sync), SyncState::Sent { end, .. }) => *end = self.written,
            (None | Some(Attachment::Sync), _) => {}
            (Some(file), _) => {
                self.in_flight.push_back(InFlight { end: self.written, connection: file.connection() });
            }
        }
    }

    /// Why a line must wait, if it must.
    fn blocked(&self, socket: &OwnedFd, line: &QueuedLine) -> Option<Progress> {
        let length = line.bytes.len() as u64;
        match &line.file {
            None => None,
            Some(_) if line.sent > 0 => None,
            Some(Attachment::Sync) => {
                // What the previous daemon wrote is not in `written`. The kernel's count of unread bytes is exact or
                // too large.
                let unread = fdpass::unread(socket).unwrap_or(0);
                (unread > 0 && unread + length > ONE_READ).then_some(Progress::RetryLater)
            }
            Some(_) => (self.sync != SyncState::Synced || !self.may_send_file(length)).then_some(Progress::Done),
        }
    }

    fn may_send_file(&self, length: u64) -> bool {
        let unread = self.written - self.read + length;
        self.in_flight.is_empty() || (self.in_flight.len() < MAX_FILES && unread <= ONE_READ)
    }
}

impl Attachment {
    fn connection(&self) -> Option<u64> {
        match self {
            Attachment::Connection { seq, .. } => Some(*seq),
            Attachment::Socket(_) | Attachment::Sync => None,
        }
    }

    /// Sends the file with the first of these bytes.
    fn send(&self, socket: &OwnedFd, bytes: &[u8], run: Run) -> io::Result<usize> {
        let send = |fd: BorrowedFd<'_>| fdpass::send(socket, bytes, Some(fd));
        match self {
            Attachment::Connection { socket, seq } => {
                socket.mark_handed(run, *seq);
                killpoint::pass("handing");
                let sent = send(socket.as_fd()).inspect_err(|_| socket.mark_waiting());
                killpoint::pass("handed");
                sent
            }
            Attachment::Socket(socket) => send(socket.as_fd()),
            Attachment::Sync => send(fdpass::channel_pair()?.0.as_fd()),
        }
    }
}
