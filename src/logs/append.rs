//! An open log file, and how bytes come to its end.
//!
//! Into a regular file they go by splice(2): one system call, which `kill -9` ends before or after a byte but never
//! between taking it from the pipe and writing it. The kernel refuses that to files opened for appending, so the end is
//! looked up each time, under a lock that keeps other writers of ours out: one that knows the file by another name, or
//! a thread of a killed daemon that still sits on a slow disk. What is no regular file is written to as ever.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use super::pipe::{Pipe, retry, with_buffer};
use crate::os::killpoint;

/// Mode of new log files. Readable by the group, so that a log shipper can be let in, but not by everyone: apps print
/// secrets.
const FILE_MODE: u32 = 0o640;
/// Mode of new log directories, for the same reason.
const DIR_MODE: u32 = 0o750;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// A file that is open for writing at its end.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    pub(super) identity: Identity,
    /// Of the folder it was opened in.
    folder: Option<Identity>,
    way: Way,
}

/// How bytes get from a pipe into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the kernel, nothing lost or doubled by a kill.
    Splice,
    /// Read and written: terminals, FIFOs, file systems that cannot do better.
    Copy,
}

impl Open {
    /// Opens the file at `path`, or makes it and its folders.
    pub(super) fn new(path: &Path) -> io::Result<Open> {
        let file = open_or_create(path)?;
        let metadata = file.metadata()?;
        let way = if metadata.is_file() { Way::Splice } else { Way::Copy };
        Ok(Open { file, identity: identity_of(&metadata), folder: folder_of(path), way })
    }

    /// True if no path leads to it any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// True if its folder was moved, and another one is in its place.
    pub(super) fn is_moved_away(&self, path: &Path) -> bool {
        folder_of(path).is_some_and(|folder| Some(folder) != self.folder)
    }

    /// True if it ends in the middle of a line. What cannot be read back is taken to end well.
    pub(super) fn ends_midline(&self) -> bool {
        let end = rustix::fs::seek(&self.file, SeekFrom::End(0)).unwrap_or(0);
        self.byte_before(end).is_some_and(|last| last != b'\n')
    }

    /// Writes all of `text`.
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self.way {
            Way::Splice => self.at_end(|file, end| file.write_all_at(text, end)),
            Way::Copy => self.file.write_all(text),
        }
    }

    /// Moves at most `length` bytes of what is in the pipe, and says how many it was. A failure leaves them in the
    /// pipe, but for [`Way::Copy`], which tells how many it had taken out and not written.
    pub(super) fn take(&mut self, pipe: &Pipe, length: usize) -> Result<usize, Failed> {
        if self.way == Way::Splice {
            match self.splice(pipe, length) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.fall_back()?,
                result => return result.map_err(|error| Failed { taken: 0, error }),
            }
        }
        self.copy(pipe, length)
    }

    fn fall_back(&mut self) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&self.file, OFlags::APPEND)?;
        self.way = Way::Copy;
        Ok(())
    }

    fn splice(&self, pipe: &Pipe, length: usize) -> io::Result<usize> {
        self.at_end(|file, mut end| {
            let mut before = self.byte_before(end);
            if end > 0 && before.is_none() {
                // Truncated just now; or not readable, and then the end is what it was.
                end = rustix::fs::seek(file, SeekFrom::End(0))?;
                before = self.byte_before(end);
            }
            let moved = retry(|| pipe.splice(file, Some(&mut end.clone()), length))?;
            killpoint::pass("spliced");
            let truncated = moved > 0 && self.byte_before(end) == Some(0) && before.is_some_and(|byte| byte != 0);
            if truncated {
                self.move_to_start(end, moved)?;
            }
            Ok(moved)
        })
    }

    /// Somebody truncated the file (logrotate's `copytruncate`) after its end was looked up, so what was written
    /// stands behind a gap of zeros.
    ///
    /// A kill of the daemon right here can leave these bytes twice; the other order would lose them.
    fn move_to_start(&self, from: u64, length: usize) -> io::Result<()> {
        let mut first = [1];
        self.file.read_exact_at(&mut first, 0)?;
        if first != [0] {
            return Ok(());
        }
        with_buffer(|buffer| {
            let bytes = &mut buffer[..length];
            self.file.read_exact_at(bytes, from)?;
            self.file.write_all_at(bytes, 0)
        })?;
        self.file.set_len(length as u64)
    }

    fn copy(&mut self, pipe: &Pipe, length: usize) -> Result<usize, Failed> {
        let copied = pipe.read(length, |bytes| match write_counted(&mut self.file, bytes) {
            (_, Ok(())) => Ok(bytes.len()),
            (written, Err(error)) => Err(Failed { taken: bytes.len() - written, error }),
        });
        copied.map_err(io::Error::from)?
    }

    fn byte_before(&self, end: u64) -> Option<u8> {
        let mut byte = [0];
        let read = self.file.read_at(&mut byte, end.checked_sub(1)?);
        matches!(read, Ok(1)).then_some(byte[0])
    }

    /// Runs `work` with the end of the file, while nobody else of ours writes to it. A file system that knows no locks
    /// goes without.
    fn at_end<T>(&self, work: impl FnOnce(&File, u64) -> io::Result<T>) -> io::Result<T> {
        let locked = self.lock();
        let outcome = rustix::fs::seek(&self.file, SeekFrom::End(0)).map_err(io::Error::from);
        let outcome = outcome.and_then(|end| work(&self.file, end));
        if locked {
            // The lock is ours, so there is nothing to fail.
            let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
        }
        outcome
    }

    fn lock(&self) -> bool {
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&whole_file(libc::F_WRLCK))) {
                Ok(_) => return true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Bytes that could not be written.
#[derive(Debug)]
pub(super) struct Failed {
    /// So many are out of the pipe and lost.
    pub(super) taken: usize,
    pub(super) error: io::Error,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed { taken: 0, error }
    }
}

impl Failed {
    /// The pipe had nothing; the file is not to blame. What cannot be written at present has been taken.
    pub(super) fn is_empty_pipe(&self) -> bool {
        self.taken == 0 && self.error.raw_os_error() == Some(Errno::AGAIN.raw_os_error())
    }
}

fn write_counted(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    match (open(path), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(folder)?;
            open(path)
        }
        (result, _) => result,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(FILE_MODE).custom_flags(libc::O_NOCTTY);
    // To see how it ends. Not for a FIFO, which would have us for its reader then.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return options.open(path);
    }
    match options.clone().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        result => result,
    }
}

fn folder_of(path: &Path) -> Option<Identity> {
    path.parent().and_then(|folder| std::fs::metadata(folder).ok()).map(|folder| identity_of(&folder))
}

pub(super) fn identity_of(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
