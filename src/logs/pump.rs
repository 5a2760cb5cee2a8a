//! One pump: what is in a pipe, moved to a log file.
//!
//! Drained on a blocking thread, whenever the dispatcher sees bytes. A file with one writer gets the bytes as they
//! come, so a prompt without a newline is there at once. In a file that several pipes share (`merge_logs`, or stdout
//! and stderr in one file) a line must not end up inside another, so what stands after the last newline is held back
//! until its line is complete, too long, or the pipe ends.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::file::{LogFile, Writer};

/// Bytes read at a time: what a pipe holds by default.
const CHUNK: usize = 64 << 10;
/// Longest unfinished line held back for a shared file; a longer one is written in pieces.
const MAX_HELD: usize = 64 << 10;
/// After so many bytes a drain gives its thread back, so that a thousand apps that never pause take turns.
const TURN: usize = 4 << 20;
/// An app that prints again within this time of its last output is chatty ...
const CHATTY: Duration = Duration::from_millis(1);
/// ... and its output is given this long to gather before it is fetched: one wake-up and one write for many lines.
const GATHER: Duration = Duration::from_micros(250);

thread_local! {
    /// One buffer for each blocking thread, gone with it ten idle seconds later. Never zeroed: short output touches
    /// one page of it.
    static BUFFER: RefCell<Box<[MaybeUninit<u8>]>> = RefCell::new(Box::new_uninit_slice(CHUNK));
}

/// How a drain ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// The pipe is empty, or others shall have their turn: watch it again.
    ForNow,
    /// The pipe has ended and all its bytes are delivered.
    Ended,
}

/// A pipe and where its bytes go.
pub(super) struct Pump {
    id: Writer,
    pipe: OwnedFd,
    file: Option<Arc<LogFile>>,
    /// Never contended: the dispatcher hands a pump to one thread at a time.
    state: Mutex<State>,
}

struct State {
    /// The beginning of a line, for shared files.
    held: Vec<u8>,
    last_output: Option<Instant>,
    /// Dropped at the end, which is the signal.
    _done: oneshot::Sender<()>,
}

impl Pump {
    /// `pipe` must be non-blocking.
    pub(super) fn new(id: Writer, pipe: OwnedFd, file: Option<Arc<LogFile>>, done: oneshot::Sender<()>) -> Pump {
        if let Some(file) = &file {
            file.attach();
        }
        Pump { id, pipe, file, state: Mutex::new(State { held: Vec::new(), last_output: None, _done: done }) }
    }

    pub(super) fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Moves what is there. Blocks as long as the disk does.
    pub(super) fn drain(&self) -> Drained {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            file.notice_replacement();
        }
        let chatty = state.last_output.is_some_and(|last| last.elapsed() < CHATTY);
        let drained = BUFFER.with_borrow_mut(|buffer| self.move_bytes(&mut state.held, buffer, chatty));
        state.last_output = Some(Instant::now());
        if drained == Drained::Ended {
            self.finish(&mut state.held);
        }
        state.held.shrink_to_fit();
        drained
    }

    fn move_bytes(&self, held: &mut Vec<u8>, buffer: &mut [MaybeUninit<u8>], chatty: bool) -> Drained {
        let mut moved = 0;
        let mut gathered = true;
        loop {
            match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(([], _)) => return Drained::Ended,
                Ok((bytes, _)) => {
                    moved += bytes.len();
                    gathered = false;
                    self.deliver(held, bytes);
                    if moved >= TURN {
                        return Drained::ForNow;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if chatty && !gathered => {
                    gathered = true;
                    std::thread::sleep(GATHER);
                }
                Err(Errno::AGAIN) => return Drained::ForNow,
                // EIO is how a terminal says that its other side is gone.
                Err(Errno::IO) => return Drained::Ended,
                Err(error) => {
                    tracing::warn!(%error, file = ?self.file, "cannot read an app's output any more");
                    return Drained::Ended;
                }
            }
        }
    }

    fn deliver(&self, held: &mut Vec<u8>, bytes: &[u8]) {
        let Some(file) = &self.file else { return };
        let ready = if file.is_shared() { memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1) } else { bytes.len() };
        if ready > 0 {
            file.append(self.id, &[held, &bytes[..ready]]);
            held.clear();
        }
        held.extend_from_slice(&bytes[ready..]);
        if held.len() > MAX_HELD {
            file.append(self.id, &[held]);
            held.clear();
        }
    }

    fn finish(&self, held: &mut Vec<u8>) {
        let Some(file) = &self.file else { return };
        if !held.is_empty() {
            file.append(self.id, &[held]);
            held.clear();
        }
    }
}

/// Comes before the fields are dropped, so the file is left in order when the end is signalled.
impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.detach(self.id);
        }
    }
}
