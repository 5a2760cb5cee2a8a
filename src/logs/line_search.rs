//! Search for the line that a health check (`log`) waits for in the output of a process.
//!
//! The search runs in the pipe, before its bytes are moved, and in whole lines only. A find is noted on the pipe before
//! it is reported and before the bytes are moved. So a daemon that is killed at any instruction leaves either a pipe
//! that still has the line, or one that has the note, and the next daemon finds the line in both cases. Lines of more
//! than half of what the pipe has room for (32 KB) are searched in parts. Outputs without a search, or whose search is
//! over, are not read line by line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use regex::bytes::Regex;
use tokio::sync::oneshot;

use super::pipe::{Pipe, Ready};
use crate::os::killpoint;
use crate::spec::health::Pattern;

/// A pattern that is searched for until it is found. All outputs of a process share one search.
#[derive(Debug)]
pub struct LineSearch {
    /// True once the line is found or the search was given up. Read without the lock, because each drain checks it.
    over: AtomicBool,
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    expression: Regex,
    found: oneshot::Sender<()>,
}

impl LineSearch {
    /// A search for `pattern`, and the receiver that is signalled when a line matches.
    #[must_use]
    pub fn new(pattern: &Pattern) -> (LineSearch, oneshot::Receiver<()>) {
        let expression = Regex::new(&pattern.expression()).expect("a pattern can be compiled");
        let (found, receiver) = oneshot::channel();
        let waiting = Mutex::new(Some(Waiting { expression, found }));
        (LineSearch { over: AtomicBool::new(false), waiting }, receiver)
    }

    /// Ends the search: the line is no longer needed.
    pub fn give_up(&self) {
        drop(self.end());
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Searches the whole lines in the pipe and returns how much may be moved. The caller must move those bytes before
    /// anything else reads from the pipe.
    pub(super) fn search(&self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        let ready = pipe.ready_lines()?;
        // Lines that cannot be read, because file descriptors are short, are not held back.
        if let Ready::Bytes(length) = ready
            && pipe.peek(|bytes| self.is_in(&bytes[..length.min(bytes.len())])) == Ok(true)
        {
            pipe.note_found();
            killpoint::pass("line-found");
            self.found();
        }
        Ok(ready)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let waiting = self.lock();
        let Some(Waiting { expression, .. }) = &*waiting else { return false };
        let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.any(|line| expression.is_match(line))
    }

    /// Reports the line as found, once.
    pub(super) fn found(&self) {
        if let Some(Waiting { found, .. }) = self.end() {
            // The receiver may have been dropped.
            let _ = found.send(());
        }
    }

    fn end(&self) -> Option<Waiting> {
        self.over.store(true, Ordering::Relaxed);
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
