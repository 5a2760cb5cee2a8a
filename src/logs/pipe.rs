//! The read end of an app's pipe. It keeps what must survive the daemon: bytes that wait for the end of their line, a
//! mark on the pipe that wrote last to its file, and a mark on a pipe in which the searched line was found.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Bytes moved at a time: the default capacity of a pipe.
pub(super) const CHUNK: usize = 64 << 10;
/// Marks the last writer: a flag without effect on the read end of a pipe. It stays as long as a process holds
/// this end.
const LAST_WRITER: OFlags = OFlags::APPEND;
/// Marks a pipe in which the searched line was found: a flag without effect, because nothing reads the access time of a
/// pipe.
const FOUND: OFlags = OFlags::NOATIME;

thread_local! {
    /// One buffer for each blocking thread that copies bytes. Freed with the thread, after ten idle seconds.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    /// The pipe into which [`Pipe::peek`] copies bytes.
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// A private pipe: tee(2) copies from one pipe to another only.
struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    size: usize,
}

/// What a pipe has to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// At most this many bytes.
    Bytes(usize),
    /// The beginning of a line, which stays in the pipe until more bytes come.
    Unfinished,
    /// Nothing at present.
    Nothing,
    /// The pipe is empty and all writers have closed it.
    Ended,
}

/// The read end of an app's output.
#[derive(Debug)]
pub(super) struct Pipe(OwnedFd);

impl Pipe {
    /// Makes the read end non-blocking, so that no read waits, not even for a thread of a dead process that still holds
    /// the pipe.
    ///
    /// # Errors
    /// When it is no pipe.
    pub(super) fn new(fd: OwnedFd) -> rustix::io::Result<Pipe> {
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::Fifo {
            return Err(Errno::NOTSUP);
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Pipe(fd))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Marks the pipe, for the next daemon, as the one that wrote last to its file. As the other mark, it changes under
    /// the lock of that file.
    pub(super) fn mark_last_writer(&self) {
        self.set(self.flags() | LAST_WRITER);
    }

    pub(super) fn unmark_last_writer(&self) {
        self.set(self.flags() - LAST_WRITER);
    }

    pub(super) fn is_last_writer(&self) -> bool {
        self.flags().contains(LAST_WRITER)
    }

    /// Marks the pipe, for the next daemon, as one in which the searched line was found.
    pub(super) fn note_found(&self) {
        self.set(self.flags() | FOUND);
    }

    pub(super) fn was_found(&self) -> bool {
        self.flags().contains(FOUND)
    }

    fn flags(&self) -> OFlags {
        // Fails only for a descriptor that is not open.
        rustix::fs::fcntl_getfl(&self.0).unwrap_or(OFlags::NONBLOCK)
    }

    fn set(&self, flags: OFlags) {
        // A failure is ignored: the mark matters only if the daemon dies in this very moment.
        let _ = rustix::fs::fcntl_setfl(&self.0, flags);
    }

    /// Checks in one system call whether there are bytes to read.
    pub(super) fn ready(&self) -> rustix::io::Result<Ready> {
        let events = self.poll()?;
        if events.contains(PollFlags::IN) {
            return Ok(Ready::Bytes(CHUNK));
        }
        if !events.contains(PollFlags::HUP) {
            return Ok(Ready::Nothing);
        }
        // The kernel checks for bytes first and for writers second: the last bytes may have come in between.
        Ok(if self.waiting()? > 0 { Ready::Bytes(CHUNK) } else { Ready::Ended })
    }

    /// The length of the whole lines in the pipe. Also of a part of a line that is too long to be held back, or of a
    /// last line without an end.
    pub(super) fn ready_lines(&self) -> rustix::io::Result<Ready> {
        // Number of bytes in the pipe before the last peek.
        let mut known = 0;
        loop {
            match self.peek(|bytes| (bytes.len(), memchr::memrchr(b'\n', bytes))) {
                Ok((0, _)) => return Ok(Ready::Ended),
                Ok((_, Some(newline))) => return Ok(Ready::Bytes(newline + 1)),
                // More than `peek` can show is more than half of what the pipe has room for. Waiting for more bytes
                // might mean waiting for a writer that waits for room.
                Ok((seen, None)) if seen < known || self.poll()?.contains(PollFlags::HUP) => {
                    return Ok(Ready::Bytes(seen));
                }
                Ok((seen, None)) => {
                    known = self.waiting()?;
                    if known == seen {
                        return Ok(Ready::Unfinished);
                    }
                }
                Err(Errno::AGAIN) => return Ok(Ready::Nothing),
                // No descriptor or memory for `peek`, or no room to hold a line back: a torn line is better than none.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => return self.ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// The length of the rest of a line, if its end is there.
    pub(super) fn rest_of_line(&self) -> Option<usize> {
        self.peek(|bytes| memchr::memchr(b'\n', bytes)).ok().flatten().map(|newline| newline + 1)
    }

    /// Passes the first bytes to `show` and leaves them in the pipe: at most [`CHUNK`], and at most what half of the
    /// pipe's slots hold.
    pub(super) fn peek<T>(&self, show: impl FnOnce(&[u8]) -> T) -> rustix::io::Result<T> {
        // A slot holds up to a page and may hold a single byte, so slots run out before bytes do.
        let page = rustix::param::page_size();
        let half = rustix::pipe::fcntl_getpipe_size(&self.0)? / 2;
        if half < page {
            return Err(Errno::NOBUFS);
        }
        SCRATCH.with_borrow_mut(|idle| {
            // Taken out and put back only after success, so that no bytes of a failed peek are left in it.
            let mut scratch = idle.take().map_or_else(Scratch::new, Ok)?;
            scratch.resize(half.min(CHUNK.max(page)))?;
            let copied = retry(|| rustix::pipe::tee(&self.0, &scratch.writer, CHUNK, SpliceFlags::NONBLOCK));
            let shown = match copied {
                Ok(length) => {
                    with_buffer(|buffer| scratch.fill(&mut buffer[..length]).map(|()| show(&buffer[..length])))
                }
                Err(error) => Err(error),
            };
            if !matches!(shown, Err(error) if error != Errno::AGAIN) {
                *idle = Some(scratch);
            }
            shown
        })
    }

    /// Takes at most `length` bytes out of the pipe and passes them to `take`.
    pub(super) fn read<T>(&self, length: usize, take: impl FnOnce(&[u8]) -> T) -> rustix::io::Result<T> {
        with_buffer(|buffer| {
            let part = &mut buffer[..length.min(CHUNK)];
            let count = retry(|| rustix::io::read(&self.0, &mut *part))?;
            Ok(take(&part[..count]))
        })
    }

    /// Moves at most `length` bytes to `target`, at `offset` if it is a file. What was not moved is still in the
    /// pipe, even if the process is killed in the middle.
    pub(super) fn splice(
        &self,
        target: &impl std::os::fd::AsFd,
        offset: Option<&mut u64>,
        length: usize,
    ) -> rustix::io::Result<usize> {
        rustix::pipe::splice(&self.0, None, target, offset, length, SpliceFlags::NONBLOCK)
    }

    /// Bytes in the pipe.
    fn waiting(&self) -> rustix::io::Result<usize> {
        Ok(rustix::io::ioctl_fionread(&self.0)? as usize)
    }

    fn poll(&self) -> rustix::io::Result<PollFlags> {
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        retry(|| poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))?;
        Ok(watched[0].revents())
    }
}

impl Scratch {
    fn new() -> rustix::io::Result<Scratch> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = rustix::pipe::fcntl_getpipe_size(&reader)?;
        Ok(Scratch { reader, writer, size })
    }

    /// Sets the size of the pipe if the kernel allows it. With a smaller pipe, `peek` shows less.
    fn resize(&mut self, size: usize) -> rustix::io::Result<()> {
        if self.size == size {
            return Ok(());
        }
        match rustix::pipe::fcntl_setpipe_size(&self.writer, size) {
            Ok(_) => self.size = rustix::pipe::fcntl_getpipe_size(&self.writer)?,
            Err(_) if self.size < size => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Fills `part`, which is as long as what is in the pipe. A pipe in packet mode yields one packet for each read.
    fn fill(&self, part: &mut [u8]) -> rustix::io::Result<()> {
        let mut filled = 0;
        while filled < part.len() {
            filled += retry(|| rustix::io::read(&self.reader, &mut part[filled..]))?;
        }
        Ok(())
    }
}

/// Repeats a system call as long as signals interrupt it.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Runs `work` with the buffer of this thread.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(buffer))
}
