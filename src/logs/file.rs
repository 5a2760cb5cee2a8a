//! One log file: any number of pumps append to it, and it may be truncated, rotated from outside, deleted, or on a full
//! disk.
//!
//! A write that fails never stops the app. Its bytes are dropped and counted, and the daemon's log records it once.
//! When writing works again, the first line written says how many bytes are missing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use super::append::{AppendFile, WriteFailure, identity_of};
use super::line_inspector::LineInspector;
use super::pipe::{Pipe, Ready};
use crate::os::killpoint;

/// A log file and the pipes that are written to it.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Number of pumps that write to it at present.
    writers: AtomicUsize,
    /// The pipe that wrote last: an unfinished line at the end of the file comes from it. The pipe itself is marked for
    /// the next daemon. Not part of `state`, because this lock is never held while the disk works.
    last: Mutex<Weak<Pipe>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<AppendFile>,
    /// Bytes dropped since the last write that worked.
    lost: u64,
}

/// Result of an attempt to move bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Number of bytes that are out of the pipe: written to the file, or lost.
    Bytes(usize),
    /// The pipe holds the beginning of a line, and nothing else.
    Unfinished,
    /// The pipe holds nothing at present.
    Nothing,
    /// The pipe has ended.
    Ended,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> LogFile {
        LogFile { path, writers: AtomicUsize::new(0), last: Mutex::default(), state: Mutex::default() }
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes dropped since the last write that worked; 0 when all is well.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Registers a pipe that is written to this file from now on. Never waits for the disk.
    pub(super) fn attach(&self, pipe: &Arc<Pipe>) {
        self.writers.fetch_add(1, Ordering::Relaxed);
        if pipe.is_last_writer() {
            *self.last() = Arc::downgrade(pipe);
        }
    }

    pub(super) fn detach(&self) {
        self.writers.fetch_sub(1, Ordering::Relaxed);
    }

    /// To be called when `pipe` has ended. Ends an unfinished line of that pipe if other pipes write to the file, whose
    /// lines would be appended to it.
    pub(super) fn end(&self, pipe: &Arc<Pipe>) {
        let mut state = self.lock();
        if self.is_shared() && self.is_last(pipe) {
            let ended = self.ensure_open(&mut state).and_then(|open| match open.ends_midline() {
                true => open.write(b"\n"),
                false => Ok(()),
            });
            if let Err(error) = ended {
                tracing::debug!(path = %self.path.display(), %error, "a last line stays unfinished");
            }
        }
    }

    /// True if several pumps write to it.
    pub(super) fn is_shared(&self) -> bool {
        self.writers.load(Ordering::Relaxed) > 1
    }

    /// Moves what is in the pipe to the end of the file: whole lines if the file is shared, else all bytes. Blocks as
    /// long as the disk does. `inspector` sees the lines before they are moved.
    ///
    /// # Errors
    /// When the pipe cannot be read.
    pub(super) fn take_from(
        &self,
        pipe: &Arc<Pipe>,
        inspector: Option<LineInspector<'_>>,
    ) -> rustix::io::Result<Taken> {
        let mut state = self.lock();
        let ready = match inspector {
            Some(inspector) => inspector.inspect(pipe),
            None if self.is_shared() => pipe.ready_lines(),
            None => pipe.ready(),
        };
        self.take_ready(&mut state, pipe, ready?)
    }

    /// As [`LogFile::take_from`], unfinished lines included.
    pub(super) fn take_unfinished(&self, pipe: &Arc<Pipe>) -> rustix::io::Result<Taken> {
        let mut state = self.lock();
        self.take_ready(&mut state, pipe, pipe.ready()?)
    }

    fn take_ready(&self, state: &mut State, pipe: &Arc<Pipe>, ready: Ready) -> rustix::io::Result<Taken> {
        let length = match ready {
            Ready::Bytes(length) => length,
            Ready::Unfinished => return Ok(Taken::Unfinished),
            Ready::Nothing => return Ok(Taken::Nothing),
            Ready::Ended => return Ok(Taken::Ended),
        };
        match self.try_take(state, pipe, length) {
            Ok(moved) => Ok(Taken::Bytes(moved)),
            Err(failed) if failed.is_empty_pipe() => Ok(Taken::Nothing),
            Err(failed) => self.lose(state, pipe, length, &failed).map(Taken::Bytes),
        }
    }

    /// Drops what could not be written, so that the app goes on.
    fn lose(&self, state: &mut State, pipe: &Pipe, length: usize, failed: &WriteFailure) -> rustix::io::Result<usize> {
        // The next attempt opens the file again, because the handle itself may be stale.
        state.open = None;
        if state.lost == 0 {
            tracing::warn!(path = %self.path.display(), error = %failed.error,
                "cannot write this log: output is dropped until it works again");
        }
        let dropped = match failed.taken {
            0 => pipe.read(length, <[u8]>::len)?,
            taken => taken,
        };
        state.lost += dropped as u64;
        Ok(dropped)
    }

    fn try_take(&self, state: &mut State, pipe: &Arc<Pipe>, length: usize) -> Result<usize, WriteFailure> {
        self.ensure_open(state)?;
        if !self.is_last(pipe) {
            self.change_writer(state, pipe)?;
        }
        if state.lost > 0 {
            self.write_gap_notice(state)?;
        }
        self.ensure_open(state)?.take(pipe, length)
    }

    /// Makes `pipe` the last writer. If the previous one left an unfinished line, its rest comes first, if it is in
    /// that pipe (a kill of the daemon may have cut the line anywhere), else a newline. The daemon may die after each
    /// step, so the marks change in this order.
    fn change_writer(&self, state: &mut State, pipe: &Arc<Pipe>) -> Result<(), WriteFailure> {
        let last = self.last().upgrade();
        let open = self.ensure_open(state)?;
        let cut = self.is_shared() && open.ends_midline();
        if let Some(last) = last {
            if cut && let Some(rest) = last.rest_of_line() {
                open.take(&last, rest)?;
            }
            last.unmark_last_writer();
        }
        if cut && open.ends_midline() {
            open.write(b"\n")?;
        }
        killpoint::pass("unmarked");
        pipe.mark_last_writer();
        *self.last() = Arc::downgrade(pipe);
        Ok(())
    }

    fn is_last(&self, pipe: &Arc<Pipe>) -> bool {
        std::ptr::eq(self.last().as_ptr(), Arc::as_ptr(pipe))
    }

    /// Writes a line into the file that says how many bytes are missing at this place.
    fn write_gap_notice(&self, state: &mut State) -> io::Result<()> {
        let lost = state.lost;
        let open = self.ensure_open(state)?;
        let line_break = if open.ends_midline() { "\n" } else { "" };
        let line = format!("{line_break}[pmr] {lost} bytes of output are missing here: the log could not be written\n");
        open.write(line.as_bytes())?;
        state.lost = 0;
        tracing::warn!(path = %self.path.display(), lost, "this log can be written again");
        Ok(())
    }

    fn ensure_open<'a>(&self, state: &'a mut State) -> io::Result<&'a mut AppendFile> {
        match &mut state.open {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(AppendFile::new(&self.path)?)),
        }
    }

    /// Closes the file if it was deleted, moved with its folder, or if its path names another file by now. A file that
    /// was renamed while nothing has its old name stays open: the rotation is half done, and the rotator makes the new
    /// file.
    ///
    /// Takes one system call if nothing changed, because each drain calls it.
    pub(super) fn notice_replacement(&self) {
        let mut state = self.lock();
        let Some(open) = &state.open else { return };
        let replaced = match std::fs::metadata(&self.path) {
            Ok(metadata) => identity_of(&metadata) != open.identity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open.is_deleted() || open.is_moved_away(&self.path)
            }
            Err(_) => false,
        };
        if replaced {
            state.open = None;
        }
    }

    /// Closes the handle and returns true, unless a write is under way.
    pub(super) fn try_close(&self) -> bool {
        match self.state.try_lock() {
            Ok(mut state) => state.open = None,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().open = None,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// Waits for the write that is under way, then closes the handle.
    pub(super) fn close(&self) {
        self.lock().open = None;
    }

    /// Waits for the write that is under way, then empties the file.
    pub(super) fn truncate(&self) -> io::Result<()> {
        let _writing = self.lock();
        // Non-blocking, because opening a FIFO without a reader would block.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(&self.path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Weak<Pipe>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
