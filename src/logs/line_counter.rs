//! How many lines a process prints, while somebody wants to know.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::pipe::{Pipe, Ready};

/// Counts the lines of an output. Off at first, and an output whose tally is off is not looked at.
#[derive(Debug, Default)]
pub struct LineTally {
    is_on: AtomicBool,
    lines: AtomicU32,
}

impl LineTally {
    /// Counts from now on, or no more.
    pub fn turn(&self, on: bool) {
        self.is_on.store(on, Ordering::Relaxed);
    }

    /// Lines since this was last asked.
    #[must_use]
    pub fn take(&self) -> u32 {
        self.lines.swap(0, Ordering::Relaxed)
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// What can be had from the pipe: whole lines, which are counted. They must be taken before anybody else takes some.
    pub(super) fn look(&self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        let ready = pipe.ready_lines()?;
        if let Ready::Bytes(length) = ready {
            let count = |bytes: &[u8]| memchr::memchr_iter(b'\n', &bytes[..length.min(bytes.len())]).count();
            // What cannot be looked at, for want of files, is not held back.
            let lines = u32::try_from(pipe.look(count).unwrap_or(0)).unwrap_or(u32::MAX);
            self.lines.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(ready)
    }
}
