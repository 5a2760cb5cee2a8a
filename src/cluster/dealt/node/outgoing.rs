//! What goes to one worker: lines in order, some with a file, and the gate at which files wait.
//!
//! Node reads 64 KiB at a time and keeps one file aside, so a second file may be on its way only while all unread bytes
//! fit well into one such piece. What was read we know from the acknowledgements, which come in order, one for each
//! file.
//!
//! A connection is written down as handed over right before the system call that sends it, and as waiting again if the
//! call did not take it. The call itself never sleeps, so a SIGKILL cannot cut it in two: it is acted upon before the
//! call or after it. That leaves one doubt for a successor: of what is written down as handed over, the last may not have
//! been sent. And he may see acknowledgements a second time, which were read but not taken away yet. So a channel taken
//! over is unsure, and the first file on it is a *question*: a connection for a listener that does not exist, which a
//! worker turns down, in its turn. Nothing with a file goes behind it until it is answered. By then every connection
//! before it has been answered for or was never sent, and all acknowledgements that come later are for later files.
//!
//! A line goes to the kernel whole (up to 32 KiB are taken at once or not at all), so no successor finds half a line of
//! ours. Of a longer message, which only the app's owner could want to send, half may be lost with God.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::cluster::dealt::write_queue::Progress;
use crate::cluster::persist::store::Accepted;
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::protocol::Run;

/// Unread bytes up to which more than one file may be on its way: a read of Node's less a margin.
const ONE_READ: u64 = 48 << 10;
/// Files on their way at once, at most.
const FILES_AT_ONCE: usize = 16;

/// A file to be sent. It is open with us until the worker has answered for it.
#[derive(Clone, Debug)]
pub(crate) enum Cargo {
    /// A connection, with the number of the hand-over.
    Connection {
        /// The connection.
        socket: Rc<Accepted>,
        /// Our number for it.
        seq: u64,
    },
    /// A socket of ours that the worker is to use by itself.
    Socket(Rc<OwnedFd>),
    /// A connection to be turned down.
    Question,
}

/// Whether we know which file an acknowledgement is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Footing {
    /// We do.
    #[default]
    Sure,
    /// The channel was taken over: not yet.
    Unsure,
    /// The question is sent, or about to be.
    Asked {
        /// Its number.
        seq: u64,
        /// Position in the stream after it, once it is sent.
        end: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    run: Run,
    queue: VecDeque<Parcel>,
    /// Bytes written since the start, and how many of them were surely read.
    written: u64,
    read: u64,
    /// Files written and not acknowledged, in order.
    under_way: VecDeque<UnderWay>,
    footing: Footing,
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

impl Outgoing {
    /// To a worker that was just started.
    pub(crate) fn new(run: Run) -> Outgoing {
        let footing = Footing::Sure;
        Outgoing { run, queue: VecDeque::new(), written: 0, read: 0, under_way: VecDeque::new(), footing }
    }

    /// To a worker that another God wrote to before.
    pub(crate) fn resumed(run: Run) -> Outgoing {
        Outgoing { footing: Footing::Unsure, ..Outgoing::new(run) }
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: String, cargo: Option<Cargo>) {
        self.queue.push_back(Parcel { bytes: line.into_bytes(), sent: 0, cargo });
    }

    /// True if a question must be asked before any file is sent.
    pub(crate) fn is_unsure(&self) -> bool {
        self.footing == Footing::Unsure
    }

    /// Adds the question.
    pub(crate) fn ask(&mut self, line: String, seq: u64) {
        self.footing = Footing::Asked { seq, end: self.written };
        self.add(line, Some(Cargo::Question));
    }

    /// True if this is the answer to the question: all before it is over and done.
    pub(crate) fn settle(&mut self, answered: u64) -> bool {
        match self.footing {
            Footing::Asked { seq, end } if seq == answered => {
                self.footing = Footing::Sure;
                self.under_way.clear();
                self.read = end;
                true
            }
            Footing::Sure | Footing::Unsure | Footing::Asked { .. } => false,
        }
    }

    /// The worker read the oldest file under way, or missed it. Returns the connection it was. While the question is
    /// open, acknowledgements say nothing.
    pub(crate) fn acknowledged(&mut self) -> Option<u64> {
        if self.footing != Footing::Sure {
            return None;
        }
        let oldest = self.under_way.pop_front()?;
        self.read = oldest.end;
        oldest.connection
    }

    /// Forgets a connection that is not written yet; false if it is on its way.
    pub(crate) fn recall(&mut self, connection: u64) -> bool {
        let before = self.queue.len();
        self.queue.retain(|p| p.sent > 0 || p.cargo.as_ref().and_then(Cargo::connection) != Some(connection));
        self.queue.len() < before
    }

    /// Forgets all that is not written.
    pub(crate) fn abandon(&mut self) {
        self.queue.clear();
    }

    /// Writes as much as may go now.
    pub(crate) fn write(&mut self, socket: &OwnedFd) -> Progress {
        while let Some(mut parcel) = self.queue.pop_front() {
            let written = match self.held_back(socket, &parcel) {
                Some(progress) => Err(progress),
                None => self.write_parcel(socket, &mut parcel),
            };
            if let Err(progress) = written {
                self.queue.push_front(parcel);
                return progress;
            }
        }
        Progress::Done
    }

    fn write_parcel(&mut self, socket: &OwnedFd, parcel: &mut Parcel) -> Result<(), Progress> {
        while parcel.sent < parcel.bytes.len() {
            let rest = &parcel.bytes[parcel.sent..];
            let sent = match &parcel.cargo {
                Some(cargo) if parcel.sent == 0 => cargo.send(socket, rest, self.run),
                _ => fdpass::send(socket, rest, None),
            };
            match sent {
                Ok(count) => {
                    parcel.sent += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Progress::Full),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if fdpass::is_shortage(&error) => return Err(Progress::Later),
                // The worker's end is closed. The reader learns it, too, and clears up.
                Err(_) => {
                    self.queue.clear();
                    return Ok(());
                }
            }
        }
        self.sent(parcel.cargo.as_ref());
        Ok(())
    }

    fn sent(&mut self, cargo: Option<&Cargo>) {
        match (cargo, &mut self.footing) {
            (Some(Cargo::Question), Footing::Asked { end, .. }) => *end = self.written,
            (None | Some(Cargo::Question), _) => {}
            (Some(cargo), _) => {
                self.under_way.push_back(UnderWay { end: self.written, connection: cargo.connection() });
            }
        }
    }

    /// Why a parcel must wait, if it must.
    fn held_back(&self, socket: &OwnedFd, parcel: &Parcel) -> Option<Progress> {
        let length = parcel.bytes.len() as u64;
        match &parcel.cargo {
            None => None,
            Some(_) if parcel.sent > 0 => None,
            Some(Cargo::Question) => {
                // What the God before wrote is not in our count: the kernel knows how much of it is unread, or more.
                let unread = fdpass::unread(socket).unwrap_or(0);
                (unread > 0 && unread + length > ONE_READ).then_some(Progress::Later)
            }
            Some(_) => (self.footing != Footing::Sure || !self.gate_is_open(length)).then_some(Progress::Done),
        }
    }

    fn gate_is_open(&self, length: u64) -> bool {
        let unread = self.written - self.read + length;
        self.under_way.is_empty() || (self.under_way.len() < FILES_AT_ONCE && unread <= ONE_READ)
    }
}

impl Cargo {
    fn connection(&self) -> Option<u64> {
        match self {
            Cargo::Connection { seq, .. } => Some(*seq),
            Cargo::Socket(_) | Cargo::Question => None,
        }
    }

    /// Sends it with the first of these bytes.
    fn send(&self, socket: &OwnedFd, bytes: &[u8], run: Run) -> io::Result<usize> {
        let send = |file: BorrowedFd<'_>| fdpass::send(socket, bytes, Some(file));
        match self {
            Cargo::Connection { socket, seq } => {
                socket.is_handed(run, *seq);
                killpoint::pass("handing");
                let sent = send(socket.as_fd()).inspect_err(|_| socket.waits());
                killpoint::pass("handed");
                sent
            }
            Cargo::Socket(socket) => send(socket.as_fd()),
            Cargo::Question => send(fdpass::channel_pair()?.0.as_fd()),
        }
    }
}
