//! One worker's channel: lines out, lines in.
//!
//! A line goes straight to the kernel if nothing is before it, so the usual hand-over is one system call and no wake-up.
//! Which line may go when is [`super::outgoing`]'s affair.
//!
//! What comes in is looked at first, acted upon, and only then taken away, whole lines at a time: a God killed before
//! that leaves it to his successor, who may see a line again that was acted upon already. Only a line longer than one
//! read is collected here, and lost with God. That costs no system call: a read that was not filled is known to have
//! emptied the socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use super::lines::Lines;
use super::outgoing::{Cargo, Outgoing};
use crate::cluster::dealt::write_queue::{Progress, Push, push};
use crate::cluster::persist::store::KeptFd;
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::protocol::Run;

/// Bytes read at a time. On the stack, so a quiet worker costs no buffer.
const READ: usize = 16 << 10;

/// Our end of a worker's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Dropped before the socket.
    kept: RefCell<Option<KeptFd>>,
    socket: AsyncFd<OwnedFd>,
    incoming: RefCell<Lines>,
    outgoing: RefCell<Outgoing>,
    /// A task waits to go on writing.
    waiting: Cell<bool>,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Lines; there may be more.
    Some,
    /// Nothing more now.
    Empty,
    /// The beginning of a line.
    Unfinished,
    /// The worker's end is closed.
    End,
}

impl Channel {
    /// Takes over our end of a new socket pair. Must be called inside the runtime.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(crate) fn new(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        Channel::with(socket, Outgoing::new(run), kept)
    }

    /// Takes over a channel that another God used.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(crate) fn resume(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        Channel::with(socket, Outgoing::resumed(run), kept)
    }

    fn with(socket: OwnedFd, outgoing: Outgoing, kept: KeptFd) -> io::Result<Rc<Channel>> {
        let (socket, outgoing) = (fdpass::watch(socket)?, RefCell::new(outgoing));
        let kept = RefCell::new(Some(kept));
        Ok(Rc::new(Channel { kept, socket, incoming: RefCell::default(), outgoing, waiting: Cell::new(false) }))
    }

    /// The worker is no more: nobody needs to find this again.
    pub(crate) fn release(&self) {
        drop(self.kept.borrow_mut().take());
    }

    /// Sends a line, now or as soon as the worker reads on. To a dead worker it goes nowhere: the reader finds the end.
    pub(crate) fn send(self: &Rc<Self>, line: impl Into<String>, cargo: Option<Cargo>) {
        self.outgoing.borrow_mut().add(line.into(), cargo);
        push(self);
    }

    /// True if [`Channel::ask`] must come before any file.
    pub(crate) fn is_unsure(&self) -> bool {
        self.outgoing.borrow().is_unsure()
    }

    /// Sends the question with this number.
    pub(crate) fn ask(self: &Rc<Self>, seq: u64) {
        self.outgoing.borrow_mut().ask(super::reply::question(seq), seq);
        push(self);
    }

    /// True if this number is that of the question.
    pub(crate) fn settle(self: &Rc<Self>, answered: u64) -> bool {
        let settled = self.outgoing.borrow_mut().settle(answered);
        if settled {
            push(self);
        }
        settled
    }

    /// The worker read the oldest file under way, or missed it. Returns the connection it was, if that is known.
    pub(crate) fn acknowledged(self: &Rc<Self>) -> Option<u64> {
        let connection = self.outgoing.borrow_mut().acknowledged();
        push(self);
        connection
    }

    /// Forgets a connection that is not written yet; false if it is on its way.
    pub(crate) fn recall(&self, connection: u64) -> bool {
        self.outgoing.borrow_mut().recall(connection)
    }

    /// The worker hears no more: what was to be sent is forgotten, and the files with it.
    pub(crate) fn abandon(&self) {
        self.outgoing.borrow_mut().abandon();
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

    /// Reads once, without waiting. Files that come along are closed.
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

impl Push for Channel {
    fn socket(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    fn waiting(&self) -> &Cell<bool> {
        &self.waiting
    }

    fn write(&self) -> Progress {
        self.outgoing.borrow_mut().write(self.socket.get_ref())
    }
}

/// How many of these bytes to act upon: whole lines. A line that came with a file goes alone, so that a successor who sees
/// it again sees it first. A line that no read holds whole goes in pieces.
fn batch(bytes: &[u8], with_file: bool, may_be_more: bool) -> usize {
    let Some(end) = memchr::memrchr(b'\n', bytes) else { return if may_be_more { bytes.len() } else { 0 } };
    let before = memchr::memrchr(b'\n', &bytes[..end]).filter(|_| with_file);
    before.unwrap_or(end) + 1
}
