//! The read end of an app's pipe. What must survive the daemon is kept in it: bytes that wait for the end of their
//! line, a mark on the pipe that wrote last to its file, and one on a pipe in which an awaited line was found.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Bytes moved at a time: what a pipe holds by default.
pub(super) const CHUNK: usize = 64 << 10;
/// The mark of the last writer. Means nothing to the read end of a pipe, and stays as long as anybody holds this end.
const MARK: OFlags = OFlags::APPEND;
/// The mark of an awaited line that was found. When a pipe was last read is told to nobody.
const FOUND: OFlags = OFlags::NOATIME;

thread_local! {
    /// One buffer for each blocking thread that has to look at bytes, gone with it ten idle seconds later.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    /// Where bytes are copied to be looked at.
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// A private pipe: tee(2) copies from one pipe to another only.
struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    size: usize,
}

/// What can be had from a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// So many bytes, or fewer.
    Bytes(usize),
    /// The beginning of a line, which is to stay until there is more.
    Unfinished,
    /// Nothing at present.
    Nothing,
    /// Nothing ever more: all writers are gone.
    Ended,
}

/// The read end of an app's output.
#[derive(Debug)]
pub(super) struct Pipe(OwnedFd);

impl Pipe {
    /// Never waits, not even for a thread of a dead process that still holds the pipe.
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

    /// Notes on the pipe, for a daemon to come, that it wrote last to its file. As the other marks, it changes under the
    /// lock of that file.
    pub(super) fn mark(&self) {
        self.set(self.flags() | MARK);
    }

    pub(super) fn unmark(&self) {
        self.set(self.flags() - MARK);
    }

    pub(super) fn is_marked(&self) -> bool {
        self.flags().contains(MARK)
    }

    /// Notes, for a daemon to come, that an awaited line was found.
    pub(super) fn note_found(&self) {
        self.set(self.flags() | FOUND);
    }

    pub(super) fn was_found(&self) -> bool {
        self.flags().contains(FOUND)
    }

    fn flags(&self) -> OFlags {
        // Fails only for a descriptor that is none.
        rustix::fs::fcntl_getfl(&self.0).unwrap_or(OFlags::NONBLOCK)
    }

    fn set(&self, flags: OFlags) {
        // A mark that cannot be made is done without: it matters only if the daemon dies in this very moment.
        let _ = rustix::fs::fcntl_setfl(&self.0, flags);
    }

    /// Whether there is something, in one system call.
    pub(super) fn ready(&self) -> rustix::io::Result<Ready> {
        let events = self.poll()?;
        if events.contains(PollFlags::IN) {
            return Ok(Ready::Bytes(CHUNK));
        }
        if !events.contains(PollFlags::HUP) {
            return Ok(Ready::Nothing);
        }
        // The kernel looks for bytes first and for writers then: the last bytes may have come in between.
        Ok(if self.waiting()? > 0 { Ready::Bytes(CHUNK) } else { Ready::Ended })
    }

    /// The whole lines that are there, or a part of one that is too long to be held back, or is the last.
    pub(super) fn ready_lines(&self) -> rustix::io::Result<Ready> {
        // So many were there before the last look.
        let mut known = 0;
        loop {
            match self.look(|bytes| (bytes.len(), memchr::memrchr(b'\n', bytes))) {
                Ok((0, _)) => return Ok(Ready::Ended),
                Ok((_, Some(newline))) => return Ok(Ready::Bytes(newline + 1)),
                // More than can be looked at is more than half of what the pipe has room for. Waiting for still more
                // might be waiting for a writer that waits for room.
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
                // No room to look, or none to hold back: a torn line is better than none.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => return self.ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// The length of the rest of a line, if its end is there.
    pub(super) fn rest_of_line(&self) -> Option<usize> {
        self.look(|bytes| memchr::memchr(b'\n', bytes)).ok().flatten().map(|newline| newline + 1)
    }

    /// Shows the first bytes, which stay in the pipe: at most a chunk, and at most what half of its slots hold.
    pub(super) fn look<T>(&self, show: impl FnOnce(&[u8]) -> T) -> rustix::io::Result<T> {
        // A slot holds up to a page, and may hold a single byte: slots are what a pipe runs out of.
        let page = rustix::param::page_size();
        let half = rustix::pipe::fcntl_getpipe_size(&self.0)? / 2;
        if half < page {
            return Err(Errno::NOBUFS);
        }
        SCRATCH.with_borrow_mut(|idle| {
            // Taken out and put back only when all went well, so that no bytes of another look are left in it.
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

    /// Hands at most `length` bytes over. They are out of the pipe then.
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

    /// Gives it the size if it can be had. A smaller one does, too: then less is looked at.
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

    /// Fills `part`, which is as long as what is there. From a pipe in packet mode come single packets.
    fn fill(&self, part: &mut [u8]) -> rustix::io::Result<()> {
        let mut filled = 0;
        while filled < part.len() {
            filled += retry(|| rustix::io::read(&self.reader, &mut part[filled..]))?;
        }
        Ok(())
    }
}

/// Runs a system call again that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The buffer of this thread.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(buffer))
}
