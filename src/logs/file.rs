//! One log file: appended to by any number of pumps, truncated, rotated from outside, deleted, out of space.
//!
//! A write that fails never stops the app. Its bytes are dropped and counted, the daemon's log says so once, and when
//! writing works again the first thing written is a line that says how much is missing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Mode of new log files. Readable by the group, so that a log shipper can be let in, but not by everyone: apps print
/// secrets.
const FILE_MODE: u32 = 0o640;
/// Mode of new log directories, for the same reason.
const DIR_MODE: u32 = 0o750;

/// Who writes: the number of a pump.
pub(super) type Writer = u64;

/// A log file and all that is known of its end.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Pumps that write to it at present.
    writers: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// The file ends in the middle of a line of this writer.
    unfinished: Option<Writer>,
    /// Bytes dropped since the last write that worked.
    lost: u64,
    /// Which file `unfinished` is about.
    last: Option<Identity>,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

/// A write that failed, and how many of its bytes are in the file all the same.
struct Failed {
    written: usize,
    error: io::Error,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> LogFile {
        LogFile { path, writers: AtomicUsize::new(0), state: Mutex::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes dropped since the last write that worked; 0 when all is well.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    pub(super) fn attach(&self) {
        self.writers.fetch_add(1, Ordering::Relaxed);
    }

    /// The writer is done. A line it left unfinished is ended if others write here, for theirs would run into it.
    pub(super) fn detach(&self, writer: Writer) {
        let mut state = self.lock();
        if self.is_shared() && state.unfinished == Some(writer) {
            self.append_locked(&mut state, writer, &[b"\n"]);
        }
        self.writers.fetch_sub(1, Ordering::Relaxed);
    }

    /// True if lines of several writers meet in it.
    pub(super) fn is_shared(&self) -> bool {
        self.writers.load(Ordering::Relaxed) > 1
    }

    /// Writes the parts one after the other, with nobody else's bytes between them. Blocks as long as the disk does.
    pub(super) fn append(&self, writer: Writer, parts: &[&[u8]]) {
        self.append_locked(&mut self.lock(), writer, parts);
    }

    fn append_locked(&self, state: &mut State, writer: Writer, parts: &[&[u8]]) {
        if let Err(failed) = self.try_append(state, writer, parts) {
            // Opened anew for the next try: the handle itself may be what is stale.
            state.open = None;
            let total: usize = parts.iter().map(|part| part.len()).sum();
            if state.lost == 0 {
                tracing::warn!(path = %self.path.display(), error = %failed.error,
                    "cannot write this log: output is dropped until it works again");
            }
            state.lost += (total - failed.written) as u64;
        }
    }

    fn try_append(&self, state: &mut State, writer: Writer, parts: &[&[u8]]) -> Result<(), Failed> {
        self.ensure_open(state).map_err(|error| Failed { written: 0, error })?;
        if self.is_shared() && state.unfinished.is_some_and(|owner| owner != writer) {
            state.write(writer, b"\n").map_err(|failed| Failed { written: 0, ..failed })?;
        }
        if state.lost > 0 {
            self.confess(state, writer).map_err(|failed| Failed { written: 0, ..failed })?;
        }
        let mut before = 0;
        for part in parts {
            state.write(writer, part).map_err(|failed| Failed { written: before + failed.written, ..failed })?;
            before += part.len();
        }
        Ok(())
    }

    /// Says in the file how much is missing at this place.
    fn confess(&self, state: &mut State, writer: Writer) -> Result<(), Failed> {
        let lost = state.lost;
        let line_break = if state.unfinished.is_some() { "\n" } else { "" };
        let line = format!("{line_break}[pmr] {lost} bytes of output are missing here: the log could not be written\n");
        state.write(writer, line.as_bytes())?;
        state.lost = 0;
        tracing::warn!(path = %self.path.display(), lost, "this log can be written again");
        Ok(())
    }

    fn ensure_open(&self, state: &mut State) -> io::Result<()> {
        if state.open.is_some() {
            return Ok(());
        }
        let file = open_or_create(&self.path)?;
        let identity = identity_of(&file.metadata()?);
        if state.last != Some(identity) {
            state.unfinished = None;
        }
        state.last = Some(identity);
        state.open = Some(Open { file, identity });
        Ok(())
    }

    /// Lets go of the file if it was deleted, or if its path names another one by now. A file that was renamed with
    /// nothing in its place yet is kept: rotation is half done, and making the new one is the rotator's business.
    ///
    /// One system call when all is as it was, so that every drain can afford it.
    pub(super) fn notice_replacement(&self) {
        let mut state = self.lock();
        let Some(open) = &state.open else { return };
        let replaced = match std::fs::metadata(&self.path) {
            Ok(metadata) => identity_of(&metadata) != open.identity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
            }
            Err(_) => false,
        };
        if replaced {
            state.open = None;
        }
    }

    /// Closes the handle unless somebody is writing; false if so.
    pub(super) fn try_close(&self) -> bool {
        match self.state.try_lock() {
            Ok(mut state) => state.open = None,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().open = None,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// Closes the handle, after the write that is under way.
    pub(super) fn close(&self) {
        self.lock().open = None;
    }

    /// Empties the file, after the write that is under way.
    pub(super) fn truncate(&self) -> io::Result<()> {
        let mut state = self.lock();
        // Non-blocking for the sake of a FIFO that nobody reads.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(&self.path) {
            Ok(_) => state.unfinished = None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends all of `bytes`, remembering how the file ends even when only some could be written.
    fn write(&mut self, writer: Writer, bytes: &[u8]) -> Result<(), Failed> {
        let open = self.open.as_mut().expect("opened by ensure_open under the same lock");
        let mut written = 0;
        let outcome = loop {
            if written == bytes.len() {
                break Ok(());
            }
            match open.file.write(&bytes[written..]) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(last) = bytes[..written].last() {
            self.unfinished = (*last != b'\n').then_some(writer);
        }
        outcome.map_err(|error| Failed { written, error })
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE).custom_flags(libc::O_NOCTTY);
    match (options.open(path), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(folder)?;
            options.open(path)
        }
        (result, _) => result,
    }
}

fn identity_of(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
