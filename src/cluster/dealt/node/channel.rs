//! One worker's IPC channel: lines out, lines in.
//!
//! A line goes straight to the kernel if nothing is queued before it, so the usual hand-over is one system call and no
//! wake-up. When a line may go is decided in [`super::outgoing`].
//!
//! What comes in is peeked at, handled, and only then taken out of the socket, whole lines at a time. A daemon that is
//! killed before that leaves it to the next daemon, which may see a line again that was handled already. Only a line
//! longer than one read is collected here, and lost with the daemon. Taking out what was peeked at costs no wake-up: a
//! read that did not fill the buffer is known to have emptied the socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use super::lines::Lines;
use super::outgoing::{Attachment, Outgoing};
use crate::cluster::dealt::write_queue::{Progress, WriteQueue, write_or_schedule};
use crate::cluster::persist::KeptFd;
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::protocol::Run;

/// Bytes read at a time. The buffer is on the stack, so a quiet worker costs none.
const READ: usize = 16 << 10;

/// The daemon's end of a worker's IPC channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Its entry in the ledger. Dropped before the socket, so that the ledger never names a closed descriptor.
    kept: RefCell<Option<KeptFd>>,
    socket: AsyncFd<OwnedFd>,
    incoming: RefCell<Lines>,
    outgoing: RefCell<Outgoing>,
    /// A task waits to go on writing.
    has_task: Cell<bool>,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Lines were handled; there may be more.
    Some,
    /// Nothing, or nothing more for now.
    Empty,
    /// Only the beginning of a line.
    Unfinished,
    /// The worker's end is closed.
    End,
}

impl Channel {
    /// The daemon's end of a new socket pair. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub(crate) fn new(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        Channel::with(socket, Outgoing::new(run), kept)
    }

    /// A channel that an earlier daemon used.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub(crate) fn resume(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        Channel::with(socket, Outgoing::resumed(run), kept)
    }

    fn with(socket: OwnedFd, outgoing: Outgoing, kept: KeptFd) -> io::Result<Rc<Channel>> {
        let (socket, outgoing) = (fdpass::watch(socket)?, RefCell::new(outgoing));
        let kept = RefCell::new(Some(kept));
        Ok(Rc::new(Channel { kept, socket, incoming: RefCell::default(), outgoing, has_task: Cell::new(false) }))
    }

    /// The worker is gone: the next daemon does not need its channel.
    pub(crate) fn release(&self) {
        drop(self.kept.borrow_mut().take());
    }

    /// Sends a line, now or as soon as the worker reads on. What is sent to a dead worker is lost: the reader of the
    /// channel finds its end.
    pub(crate) fn send(self: &Rc<Self>, line: impl Into<String>, file: Option<Attachment>) {
        self.outgoing.borrow_mut().add(line.into(), file);
        write_or_schedule(self);
    }

    /// True if [`Channel::sync`] must come before any file.
    pub(crate) fn needs_sync(&self) -> bool {
        self.outgoing.borrow().needs_sync()
    }

    /// Sends the sync message with this number.
    pub(crate) fn sync(self: &Rc<Self>, seq: u64) {
        self.outgoing.borrow_mut().add_sync(super::reply::sync(seq), seq);
        write_or_schedule(self);
    }

    /// True if the answered message is the sync message.
    pub(crate) fn complete_sync(self: &Rc<Self>, answered: u64) -> bool {
        let synced = self.outgoing.borrow_mut().complete_sync(answered);
        if synced {
            write_or_schedule(self);
        }
        synced
    }

    /// The worker read the oldest file in flight, or reported that it did not arrive. Returns the message number, if
    /// the file is known to be a connection.
    pub(crate) fn acknowledged(self: &Rc<Self>) -> Option<u64> {
        let connection = self.outgoing.borrow_mut().acknowledged();
        write_or_schedule(self);
        connection
    }

    /// Cancels a connection that is not written yet; false if it is in flight.
    pub(crate) fn cancel(&self, connection: u64) -> bool {
        self.outgoing.borrow_mut().cancel(connection)
    }

    /// Discards what is queued, and closes its files: the worker reads no more.
    pub(crate) fn discard_queue(&self) {
        self.outgoing.borrow_mut().discard();
    }

    /// Waits until there may be something to read, and reads once.
    pub(crate) async fn read(&self, each: impl FnMut(&[u8])) -> Read {
        let Ok(mut ready) = self.socket.readable().await else { return Read::End };
        let closed = ready.ready().is_read_closed();
        let got = self.read_now(each);
        if got == Read::Unfinished && closed {
            return Read::End;
        }
        if got != Read::Some {
            ready.clear_ready();
        }
        got
    }

    /// Reads once, without waiting. Files that come with lines are closed.
    pub(crate) fn read_now(&self, each: impl FnMut(&[u8])) -> Read {
        let mut buffer = [0; READ];
        let (count, with_file) = match fdpass::peek(self.socket.get_ref(), &mut buffer) {
            Ok((0, _)) => return Read::End,
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Read::Some,
            Err(_) => return Read::End,
        };
        // The kernel stops after a file, and where the buffer ends.
        let may_be_more = with_file || count == READ;
        let batch = batch(&buffer[..count], with_file, may_be_more);
        if batch == 0 {
            return Read::Unfinished;
        }
        self.incoming.borrow_mut().feed(&buffer[..batch], each);
        killpoint::pass("heard");
        if fdpass::take(self.socket.get_ref(), &mut buffer[..batch]).is_err() {
            return Read::End;
        }
        if may_be_more { Read::Some } else { Read::Empty }
    }
}

impl WriteQueue for Channel {
    fn socket(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    fn has_task(&self) -> &Cell<bool> {
        &self.has_task
    }

    fn write(&self) -> Progress {
        self.outgoing.borrow_mut().write(self.socket.get_ref())
    }
}

/// How many of these bytes to handle now: whole lines. A line that came with a file is handled alone, so that the next
/// daemon, if it sees the line again, sees it first. A line that is longer than a read is handled in pieces.
fn batch(bytes: &[u8], with_file: bool, may_be_more: bool) -> usize {
    let Some(end) = memchr::memrchr(b'\n', bytes) else { return if may_be_more { bytes.len() } else { 0 } };
    let before = memchr::memrchr(b'\n', &bytes[..end]).filter(|_| with_file);
    before.unwrap_or(end) + 1
}
