//! One pump: what is in a pipe, moved to a log file.
//!
//! Drained on a blocking thread, whenever the dispatcher sees bytes. A file with one writer gets the bytes as they
//! come, so a prompt without a newline is there at once. In a file that several pipes share (`merge_logs`, or stdout
//! and stderr in one file) a line must not end up inside another, so what stands after the last newline is held back
//! until its line is complete, too long, or the pipe ends. It stays in the pipe, which outlives the daemon. So it is with
//! an output in which a line is awaited, which is looked for in whole lines.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tokio::sync::oneshot;

use super::file::{LogFile, Taken};
use super::line_inspector::LineInspector;
use super::pipe::{Pipe, Ready};
use super::{AwaitedLine, LineCounter};

/// After so many bytes a drain gives its thread back, so that a thousand apps that never pause take turns.
const TURN: usize = 4 << 20;
/// An app that prints again within this time of its last output is chatty ...
const CHATTY: Duration = Duration::from_millis(1);
/// ... and its output is given this long to gather before it is fetched: one wake-up and one write for many lines.
const GATHER: Duration = Duration::from_micros(250);

/// How a drain ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// There is more, but the thread is given to other pumps first.
    TurnOver,
    /// Nothing to be done at present: watch it again.
    Idle,
    /// As `Idle`, but the beginning of a line is held back, which must not fire: watch for further writes only.
    Held,
    /// The pipe has ended and all its bytes are delivered.
    Ended,
}

/// A pipe and where its bytes go.
pub(super) struct Pump {
    pipe: Arc<Pipe>,
    file: Option<Arc<LogFile>>,
    awaited: Option<Arc<AwaitedLine>>,
    tally: Option<Arc<LineCounter>>,
    /// Set once the pipe has held back the beginning of a line.
    write_events: OnceLock<WriteEvents>,
    /// Held while it drains. The dispatcher hands a pump to one thread at a time.
    last_output: Mutex<Option<Instant>>,
    /// Dropped at the end, which is the signal.
    _done: oneshot::Sender<()>,
}

/// A descriptor that becomes readable when a write to a pipe is done, whatever is in the pipe already. Not while a long
/// write waits for room:
/// the kernel tells readers of that only if the pipe was empty before.
struct WriteEvents(OwnedFd);

impl Pump {
    pub(super) fn new(
        pipe: Pipe,
        file: Option<Arc<LogFile>>,
        (awaited, tally): (Option<Arc<AwaitedLine>>, Option<Arc<LineCounter>>),
        done: oneshot::Sender<()>,
    ) -> Pump {
        let pipe = Arc::new(pipe);
        if let Some(file) = &file {
            file.attach(&pipe);
        }
        if let Some(line) = awaited.as_ref().filter(|_| pipe.was_found()) {
            line.found();
        }
        Pump { pipe, file, awaited, tally, write_events: OnceLock::new(), last_output: Mutex::default(), _done: done }
    }

    pub(super) fn pipe(&self) -> &OwnedFd {
        self.pipe.fd()
    }

    /// What to watch for the next output.
    pub(super) fn watched(&self) -> &OwnedFd {
        self.write_events.get().map_or(self.pipe.fd(), |write_events| &write_events.0)
    }

    /// Moves what is there. Blocks as long as the disk does.
    pub(super) fn drain(&self) -> Drained {
        let mut last_output = self.last_output.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            file.notice_replacement();
        }
        if let Some(write_events) = self.write_events.get() {
            write_events.forget();
        }
        let chatty = last_output.is_some_and(|last| last.elapsed() < CHATTY);
        let drained = self.move_bytes(chatty).unwrap_or_else(|error| {
            tracing::warn!(%error, file = ?self.file, "cannot read an app's output any more");
            Drained::Ended
        });
        *last_output = Some(Instant::now());
        if let (Drained::Ended, Some(file)) = (&drained, &self.file) {
            file.end(&self.pipe);
        }
        drained
    }

    /// The file it leads to.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path())
    }

    /// True if there is something to be moved, or on its way to the file. The beginning of a line that is held back is
    /// neither.
    pub(super) fn is_behind(&self) -> bool {
        let _draining = match self.last_output.try_lock() {
            Ok(free) => free,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let whole_lines = self.look().is_some() || self.file.as_ref().is_some_and(|file| file.is_shared());
        let ready = if whole_lines { self.pipe.ready_lines() } else { self.pipe.ready() };
        matches!(ready, Ok(Ready::Bytes(_) | Ready::Ended))
    }

    fn move_bytes(&self, chatty: bool) -> rustix::io::Result<Drained> {
        let mut moved = 0;
        let mut gathered = true;
        loop {
            let idle = match self.take()? {
                Taken::Bytes(count) => {
                    moved += count;
                    gathered = false;
                    if moved >= TURN {
                        return Ok(Drained::TurnOver);
                    }
                    continue;
                }
                Taken::Ended => return Ok(Drained::Ended),
                Taken::Nothing => Drained::Idle,
                Taken::Unfinished => Drained::Held,
            };
            if !chatty || gathered {
                return if idle == Drained::Held { self.hold() } else { Ok(idle) };
            }
            gathered = true;
            std::thread::sleep(GATHER);
        }
    }

    /// Leaves the beginning of a line where it is, if its growth can be watched.
    fn hold(&self) -> rustix::io::Result<Drained> {
        if self.write_events.get().is_some() {
            return Ok(Drained::Held);
        }
        match (WriteEvents::of(&self.pipe), &self.file) {
            (Ok(write_events), _) => Ok(self.write_events.set(write_events).map_or(Drained::Idle, |()| Drained::Held)),
            (Err(_), Some(file)) => file.take_unfinished(&self.pipe).map(|_| Drained::Idle),
            (Err(_), None) => Ok(Drained::Idle),
        }
    }

    fn take(&self) -> rustix::io::Result<Taken> {
        let looked_at = self.look();
        match &self.file {
            Some(file) => file.take_from(&self.pipe, looked_at),
            None => discard(&self.pipe, looked_at),
        }
    }

    /// What looks at the output line by line, if anything does at present. The search for a line comes first: a process in
    /// whose output a line is awaited is not ready yet, and its error rate is not judged.
    fn look(&self) -> Option<LineInspector<'_>> {
        let awaited = self.awaited.as_deref().filter(|line| !line.is_over());
        let tally = self.tally.as_deref().filter(|tally| tally.is_on());
        awaited.map(LineInspector::Awaited).or_else(|| tally.map(LineInspector::Counter))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.detach();
        }
    }
}

impl WriteEvents {
    /// An edge-triggered epoll around the pipe. Being an epoll, it can be watched itself, and then fires for writes
    /// since [`WriteEvents::forget`] alone: level-triggered, the bytes that are held back would fire for ever.
    fn of(pipe: &Pipe) -> io::Result<WriteEvents> {
        let edges = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&edges, pipe.fd(), EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
        Ok(WriteEvents(edges))
    }

    /// Consumes the events of all writes up to now. To be called before the pipe is looked at.
    fn forget(&self) {
        let mut events = Vec::with_capacity(1);
        // After a failure the next drain may find nothing new.
        let _ = epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()));
    }
}

/// Moves bytes to nowhere for an output that is discarded, without looking at them where the kernel can do that.
fn discard(pipe: &Pipe, look: Option<LineInspector<'_>>) -> rustix::io::Result<Taken> {
    static NOWHERE: OnceLock<Option<File>> = OnceLock::new();
    let count = match look.map_or_else(|| pipe.ready(), |look| look.at(pipe))? {
        Ready::Bytes(length) => match NOWHERE.get_or_init(|| File::options().write(true).open("/dev/null").ok()) {
            Some(nowhere) => pipe.splice(nowhere, None, length)?,
            None => pipe.read(length, <[u8]>::len)?,
        },
        Ready::Unfinished => return Ok(Taken::Unfinished),
        Ready::Nothing => return Ok(Taken::Nothing),
        Ready::Ended => return Ok(Taken::Ended),
    };
    Ok(Taken::Bytes(count))
}
