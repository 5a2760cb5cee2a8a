//! One worker's channel: lines out in order, some with a file; lines in.
//!
//! A line goes straight to the kernel if nothing is before it, so the usual hand-over is one system call and no wake-up.
//! Files wait at a gate: Node reads 64 KiB at a time and keeps one file aside, so a second file may be on its way only
//! while all unread bytes fit well into one such piece. What was read we know from the acknowledgements, which come in
//! order, one for each file.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::lines::Lines;
use crate::os::fdpass;

/// Unread bytes up to which more than one file may be on its way: a read of Node's less a margin.
const ONE_READ: u64 = 48 << 10;
/// Files on their way at once, at most.
const FILES_AT_ONCE: usize = 16;
/// Bytes read at a time. On the stack, so a quiet worker costs no buffer.
const READ: usize = 16 << 10;
/// Pause when the kernel has too many files of ours on their way.
const TOO_MANY_FILES: Duration = Duration::from_millis(10);

/// Our end of a worker's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
    incoming: RefCell<Lines>,
    outgoing: RefCell<Outgoing>,
}

/// A file to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    /// The file. We keep it open until the worker has answered for it.
    pub(crate) file: Rc<OwnedFd>,
    /// The number of the hand-over, if it is a connection.
    pub(crate) connection: Option<u64>,
}

#[derive(Debug, Default)]
struct Outgoing {
    queue: VecDeque<Parcel>,
    /// Bytes written since the start, and how many of them were surely read.
    written: u64,
    read: u64,
    /// Files written and not acknowledged, in order.
    under_way: VecDeque<UnderWay>,
    /// A task waits to go on writing.
    waiting: bool,
}

#[derive(Debug)]
struct Parcel {
    bytes: Vec<u8>,
    sent: usize,
    cargo: Option<Cargo>,
}

#[derive(Debug)]
struct UnderWay {
    /// Position in the stream after its line.
    end: u64,
    connection: Option<u64>,
}

/// How far writing got.
enum Progress {
    /// All is written, or waits for an acknowledgement.
    Done,
    /// The socket is full.
    Full,
    /// The kernel wants us to come back.
    Later,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes; there may be more.
    Some,
    /// Nothing now.
    Empty,
    /// The worker's end is closed.
    End,
}

impl Channel {
    /// Takes over our end of the socket pair. Must be called inside the runtime.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Rc<Channel>> {
        let socket = fdpass::watch(socket)?;
        Ok(Rc::new(Channel { socket, incoming: RefCell::default(), outgoing: RefCell::default() }))
    }

    /// Sends a line, now or as soon as the worker reads on. To a dead worker it goes nowhere: the reader finds the end.
    pub(crate) fn send(self: &Rc<Self>, line: impl Into<String>, cargo: Option<Cargo>) {
        let parcel = Parcel { bytes: line.into().into_bytes(), sent: 0, cargo };
        self.outgoing.borrow_mut().queue.push_back(parcel);
        self.push_on();
    }

    /// The worker read the oldest file under way, or missed it. Returns the connection it was.
    pub(crate) fn acknowledged(self: &Rc<Self>) -> Option<u64> {
        let connection = {
            let mut out = self.outgoing.borrow_mut();
            let oldest = out.under_way.pop_front()?;
            out.read = oldest.end;
            oldest.connection
        };
        self.push_on();
        connection
    }

    /// Forgets a connection that is not written yet; false if it is on its way.
    pub(crate) fn recall(&self, connection: u64) -> bool {
        let queue = &mut self.outgoing.borrow_mut().queue;
        let before = queue.len();
        queue.retain(|p| p.sent > 0 || p.cargo.as_ref().and_then(|c| c.connection) != Some(connection));
        queue.len() < before
    }

    /// Waits until there may be something to read, and reads once.
    pub(crate) async fn read(&self, each: impl FnMut(&[u8])) -> Read {
        let Ok(mut ready) = self.socket.readable().await else { return Read::End };
        let got = self.read_now(each);
        if got == Read::Empty {
            ready.clear_ready();
        }
        got
    }

    /// Reads once, without waiting. Files that come along are closed.
    pub(crate) fn read_now(&self, each: impl FnMut(&[u8])) -> Read {
        let mut buffer = [0; READ];
        match fdpass::receive(self.socket.get_ref(), &mut buffer) {
            Ok((0, _)) => Read::End,
            Ok((count, _)) => {
                self.incoming.borrow_mut().feed(&buffer[..count], each);
                Read::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Read::Some,
            Err(_) => Read::End,
        }
    }

    fn push_on(self: &Rc<Self>) {
        let mut out = self.outgoing.borrow_mut();
        if out.waiting {
            return;
        }
        let pause = match out.write(self.socket.get_ref()) {
            Progress::Done => return,
            Progress::Full => None,
            Progress::Later => Some(TOO_MANY_FILES),
        };
        out.waiting = true;
        // The task must not keep the channel of a worker that is gone.
        let channel = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut pause = pause;
            loop {
                if let Some(time) = pause.take() {
                    tokio::time::sleep(time).await;
                }
                let Some(channel) = channel.upgrade() else { return };
                match channel.write_when_possible().await {
                    Progress::Done => return,
                    Progress::Full => {}
                    Progress::Later => pause = Some(TOO_MANY_FILES),
                }
            }
        });
    }

    async fn write_when_possible(&self) -> Progress {
        let Ok(mut ready) = self.socket.writable().await else { return Progress::Done };
        let mut out = self.outgoing.borrow_mut();
        let progress = out.write(self.socket.get_ref());
        match progress {
            Progress::Done => out.waiting = false,
            Progress::Full => ready.clear_ready(),
            Progress::Later => {}
        }
        progress
    }
}

impl Outgoing {
    /// Writes as much as may go now.
    fn write(&mut self, socket: &OwnedFd) -> Progress {
        while let Some(mut parcel) = self.queue.pop_front() {
            if parcel.sent == 0 && parcel.cargo.is_some() && !self.gate_is_open(parcel.bytes.len()) {
                self.queue.push_front(parcel);
                return Progress::Done;
            }
            match self.write_parcel(socket, &mut parcel) {
                Ok(()) => {}
                Err(progress) => {
                    self.queue.push_front(parcel);
                    return progress;
                }
            }
        }
        Progress::Done
    }

    fn write_parcel(&mut self, socket: &OwnedFd, parcel: &mut Parcel) -> Result<(), Progress> {
        while parcel.sent < parcel.bytes.len() {
            let file = parcel.cargo.as_ref().filter(|_| parcel.sent == 0).map(|cargo| cargo.file.as_fd());
            match fdpass::send(socket, &parcel.bytes[parcel.sent..], file) {
                Ok(count) => {
                    parcel.sent += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Progress::Full),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => return Err(Progress::Later),
                // The worker's end is closed. The reader learns it, too, and clears up.
                Err(_) => {
                    self.queue.clear();
                    return Ok(());
                }
            }
        }
        if let Some(cargo) = &parcel.cargo {
            self.under_way.push_back(UnderWay { end: self.written, connection: cargo.connection });
        }
        Ok(())
    }

    fn gate_is_open(&self, length: usize) -> bool {
        let unread = self.written - self.read + length as u64;
        self.under_way.is_empty() || (self.under_way.len() < FILES_AT_ONCE && unread <= ONE_READ)
    }
}
