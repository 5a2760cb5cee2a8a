//! An open log file, and how bytes are appended to it.
//!
//! Bytes go into a regular file by splice(2): one system call, which `kill -9` ends before or after a byte but never
//! between taking it from the pipe and writing it. The kernel refuses to splice into files opened for appending, so
//! each write looks up the end of the file first, under a lock that excludes pmr's other writers: one that opened the
//! file by another path, or a thread of a killed daemon that still waits for a slow disk. Terminals, FIFOs and other
//! special files are written to in the usual method.

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

/// A log file that is open for appending.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    pub(super) identity: Identity,
    /// Identity of the folder in which the file was opened.
    folder: Option<Identity>,
    method: WriteMethod,
}

/// How bytes get from a pipe into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMethod {
    /// By splice(2), in the kernel: a kill loses and doubles nothing.
    Splice,
    /// By read(2) and write(2): for terminals, FIFOs and file systems without splice.
    Copy,
}

impl AppendFile {
    /// Opens the file at `path`, or makes it and its folders.
    pub(super) fn new(path: &Path) -> io::Result<AppendFile> {
        let file = open_or_create(path)?;
        let metadata = file.metadata()?;
        let method = if metadata.is_file() { WriteMethod::Splice } else { WriteMethod::Copy };
        Ok(AppendFile { file, identity: identity_of(&metadata), folder: folder_of(path), method })
    }

    /// True if no path leads to it any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// True if its folder was moved, and another one is in its place.
    pub(super) fn is_moved_away(&self, path: &Path) -> bool {
        folder_of(path).is_some_and(|folder| Some(folder) != self.folder)
    }

    /// True if the file ends in the middle of a line; false if its last byte cannot be read.
    pub(super) fn ends_midline(&self) -> bool {
        let end = rustix::fs::seek(&self.file, SeekFrom::End(0)).unwrap_or(0);
        self.byte_before(end).is_some_and(|last| last != b'\n')
    }

    /// Writes all of `text`.
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self.method {
            WriteMethod::Splice => self.at_end(|file, end| file.write_all_at(text, end)),
            WriteMethod::Copy => self.file.write_all(text),
        }
    }

    /// Moves at most `length` bytes from the pipe to the file and returns how many it moved. After a failure the bytes
    /// are still in the pipe, except with [`WriteMethod::Copy`]: the error says how many bytes were taken out and not
    /// written.
    pub(super) fn take(&mut self, pipe: &Pipe, length: usize) -> Result<usize, WriteFailure> {
        if self.method == WriteMethod::Splice {
            match self.splice(pipe, length) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.fall_back()?,
                result => return result.map_err(|error| WriteFailure { taken: 0, error }),
            }
        }
        self.copy(pipe, length)
    }

    fn fall_back(&mut self) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&self.file, OFlags::APPEND)?;
        self.method = WriteMethod::Copy;
        Ok(())
    }

    fn splice(&self, pipe: &Pipe, length: usize) -> io::Result<usize> {
        self.at_end(|file, mut end| {
            let mut before = self.byte_before(end);
            if end > 0 && before.is_none() {
                // The file was truncated just now, or is not readable; in that case the end stays the same.
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

    /// Repairs a file that was truncated (logrotate's `copytruncate`) after its end was looked up: the bytes that were
    /// written stand behind a gap of zeros.
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

    fn copy(&mut self, pipe: &Pipe, length: usize) -> Result<usize, WriteFailure> {
        let copied = pipe.read(length, |bytes| match write_counted(&mut self.file, bytes) {
            (_, Ok(())) => Ok(bytes.len()),
            (written, Err(error)) => Err(WriteFailure { taken: bytes.len() - written, error }),
        });
        copied.map_err(io::Error::from)?
    }

    fn byte_before(&self, end: u64) -> Option<u8> {
        let mut byte = [0];
        let read = self.file.read_at(&mut byte, end.checked_sub(1)?);
        matches!(read, Ok(1)).then_some(byte[0])
    }

    /// Runs `work` with the end of the file, under a lock that excludes pmr's other writers. Without a lock on file
    /// systems that have none.
    fn at_end<T>(&self, work: impl FnOnce(&File, u64) -> io::Result<T>) -> io::Result<T> {
        let locked = self.lock();
        let outcome = rustix::fs::seek(&self.file, SeekFrom::End(0)).map_err(io::Error::from);
        let outcome = outcome.and_then(|end| work(&self.file, end));
        if locked {
            // Unlocking a lock that this process holds does not fail.
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
pub(super) struct WriteFailure {
    /// Number of bytes that were taken out of the pipe and not written: they are lost.
    pub(super) taken: usize,
    pub(super) error: io::Error,
}

impl From<io::Error> for WriteFailure {
    fn from(error: io::Error) -> WriteFailure {
        WriteFailure { taken: 0, error }
    }
}

impl WriteFailure {
    /// True if the pipe was empty, so that the failure is not the file's. A file that cannot be written at present has
    /// `taken` > 0.
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
    // Open for reading too, to see the last byte. Not a FIFO: the daemon would become its reader.
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
