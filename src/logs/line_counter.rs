//! Counts the lines that a process prints, while a canary is judged by them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::pipe::{Pipe, Ready};

/// Counts the lines of an output. Off at first; the pump does not read output whose counter is off.
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

    /// Counts the whole lines in the pipe and returns how much may be moved. The caller must move those bytes before
    /// anything else reads from the pipe.
    pub(super) fn count(&self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        let ready = pipe.ready_lines()?;
        if let Ready::Bytes(length) = ready {
            let newlines = |bytes: &[u8]| memchr::memchr_iter(b'\n', &bytes[..length.min(bytes.len())]).count();
            // Lines that cannot be read, because file descriptors are short, are not counted and not held back.
            let lines = u32::try_from(pipe.peek(newlines).unwrap_or(0)).unwrap_or(u32::MAX);
            self.lines.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(ready)
    }
}
