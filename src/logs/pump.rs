//! A pump moves the bytes of one pipe to a log file.
//!
//! A blocking thread drains the pipe whenever the dispatcher sees bytes. A file with one writer gets the bytes as they
//! come, so a prompt without a newline is there at once. In a file that several pipes share (`merge_logs`, or stdout
//! and stderr in one file) a line must not end up inside another, so what stands after the last newline is held back
//! until its line is complete, too long, or the pipe ends. It stays in the pipe, which outlives the daemon. Output that
//! is searched for a line is held back in the same way, because the search needs whole lines.

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
use super::{LineCounter, LineSearch};

/// Bytes after which a drain gives its thread back, so that a thousand apps that never pause take turns.
const TURN: usize = 4 << 20;
/// An app is chatty if it prints again within this time of its last output.
const CHATTY: Duration = Duration::from_millis(1);
/// Pause before the output of a chatty app is read again: one wake-up and one write for many lines.
const GATHER: Duration = Duration::from_micros(250);

/// How a drain ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// There is more, but the thread is given to other pumps first.
    TurnOver,
    /// The pipe is empty at present: watch it again.
    Idle,
    /// As `Idle`, but the beginning of a line is held back in the pipe, which must not wake the dispatcher: watch for
    /// further writes only.
    Held,
    /// The pipe has ended and all its bytes were moved.
    Ended,
}

/// A pipe and where its bytes go.
pub(super) struct Pump {
    pipe: Arc<Pipe>,
    file: Option<Arc<LogFile>>,
    awaited: Option<Arc<LineSearch>>,
    line_counter: Option<Arc<LineCounter>>,
    /// Set once the pipe has held back the beginning of a line.
    write_events: OnceLock<WriteEvents>,
    /// When the last drain ended. Locked while a drain runs; the dispatcher gives a pump to one thread at a time.
    last_output: Mutex<Option<Instant>>,
    /// Dropped with the pump, which signals its end.
    _done: oneshot::Sender<()>,
}

/// A descriptor that becomes readable when a write to a pipe is done, whatever is in the pipe already. It does not
/// become readable while a long write waits for room: the kernel reports that only if the pipe was empty before.
struct WriteEvents(OwnedFd);

impl Pump {
    pub(super) fn new(
        pipe: Pipe,
        file: Option<Arc<LogFile>>,
        (awaited, line_counter): (Option<Arc<LineSearch>>, Option<Arc<LineCounter>>),
        done: oneshot::Sender<()>,
    ) -> Pump {
        let pipe = Arc::new(pipe);
        if let Some(file) = &file {
            file.attach(&pipe);
        }
        if let Some(line) = awaited.as_ref().filter(|_| pipe.was_found()) {
            line.found();
        }
        Pump {
            pipe,
            file,
            awaited,
            line_counter,
            write_events: OnceLock::new(),
            last_output: Mutex::default(),
            _done: done,
        }
    }

    pub(super) fn pipe(&self) -> &OwnedFd {
        self.pipe.fd()
    }

    /// The descriptor that becomes readable when there is new output.
    pub(super) fn watched(&self) -> &OwnedFd {
        self.write_events.get().map_or(self.pipe.fd(), |write_events| &write_events.0)
    }

    /// Moves the bytes in the pipe to the file. Blocks as long as the disk does.
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

    /// Path of the log file; `None` if the output is discarded.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path())
    }

    /// True if bytes are in the pipe or on their way to the file. The beginning of a line that is held back does not
    /// count.
    pub(super) fn is_behind(&self) -> bool {
        let _draining = match self.last_output.try_lock() {
            Ok(free) => free,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let whole_lines = self.line_inspector().is_some() || self.file.as_ref().is_some_and(|file| file.is_shared());
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

    /// Holds back the beginning of a line, if further writes can be watched; moves it if not.
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
        let inspector = self.line_inspector();
        match &self.file {
            Some(file) => file.take_from(&self.pipe, inspector),
            None => discard(&self.pipe, inspector),
        }
    }

    /// What inspects the output line by line at present, if anything does. The search for a line comes first: a process
    /// whose output is searched is not ready yet, and its error rate is not judged.
    fn line_inspector(&self) -> Option<LineInspector<'_>> {
        let awaited = self.awaited.as_deref().filter(|line| !line.is_over());
        let line_counter = self.line_counter.as_deref().filter(|line_counter| line_counter.is_on());
        awaited.map(LineInspector::Search).or_else(|| line_counter.map(LineInspector::Counter))
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
    /// An edge-triggered epoll around the pipe. It can be watched itself and becomes readable only for writes since the
    /// last [`WriteEvents::forget`]. A level-triggered watch would fire all the time for the bytes that are held back.
    fn of(pipe: &Pipe) -> io::Result<WriteEvents> {
        let edges = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&edges, pipe.fd(), EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
        Ok(WriteEvents(edges))
    }

    /// Consumes the events of all writes so far. To be called before the pipe is read.
    fn forget(&self) {
        let mut events = Vec::with_capacity(1);
        // After a failure the next drain may find an empty pipe.
        let _ = epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()));
    }
}

/// Discards the bytes of an output without a file, without copying them where the kernel can do that.
fn discard(pipe: &Pipe, inspector: Option<LineInspector<'_>>) -> rustix::io::Result<Taken> {
    static DEV_NULL: OnceLock<Option<File>> = OnceLock::new();
    let count = match inspector.map_or_else(|| pipe.ready(), |inspector| inspector.inspect(pipe))? {
        Ready::Bytes(length) => match DEV_NULL.get_or_init(|| File::options().write(true).open("/dev/null").ok()) {
            Some(dev_null) => pipe.splice(dev_null, None, length)?,
            None => pipe.read(length, <[u8]>::len)?,
        },
        Ready::Unfinished => return Ok(Taken::Unfinished),
        Ready::Nothing => return Ok(Taken::Nothing),
        Ready::Ended => return Ok(Taken::Ended),
    };
    Ok(Taken::Bytes(count))
}
