//! Counts the lines a process prints while a canary is judged by them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::pipe::{Pipe, Ready};

/// Counts the lines of an output. Off at first; an output whose counter is off is not looked at.
#[derive(Debug, Default)]
pub struct LineCounter {
    is_on: AtomicBool,
    lines: AtomicU32,
}

impl LineCounter {
    /// Starts or stops counting.
    pub fn turn(&self, on: bool) {
        self.is_on.store(on, Ordering::Relaxed);
    }

    /// Lines counted since the last call.
    #[must_use]
    pub fn take(&self) -> u32 {
        self.lines.swap(0, Ordering::Relaxed)
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Counts the whole lines in the pipe and returns how much may be moved. The caller must move those bytes before anything
    /// else reads from the pipe.
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
