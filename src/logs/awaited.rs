//! A line that somebody waits for in the output of a process.
//!
//! It is looked for in the pipe, before its bytes are moved, and in whole lines alone; what is found is noted on the
//! pipe before it is told and moved. So a daemon that is killed at any instruction leaves either a pipe that still has
//! the line, or one that bears the note, and its successor comes to know in both cases. Lines of more than half of what
//! the pipe has room for (32 KB) are looked at in parts. Outputs in which nothing is awaited, or no longer, are not
//! looked at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use regex::bytes::Regex;
use tokio::sync::oneshot;

use super::pipe::{Pipe, Ready};
use crate::os::killpoint;
use crate::spec::health::Pattern;

/// See the module. All outputs of a process share one.
#[derive(Debug)]
pub struct AwaitedLine {
    /// True once it is found, or nobody waits any more: for those who have no time for the lock.
    over: AtomicBool,
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    expression: Regex,
    tell: oneshot::Sender<()>,
}

impl AwaitedLine {
    /// One that is not found yet, and where it will be told.
    #[must_use]
    pub fn new(pattern: &Pattern) -> (AwaitedLine, oneshot::Receiver<()>) {
        let expression = Regex::new(&pattern.expression()).expect("a pattern can be compiled");
        let (tell, found) = oneshot::channel();
        let waiting = Mutex::new(Some(Waiting { expression, tell }));
        (AwaitedLine { over: AtomicBool::new(false), waiting }, found)
    }

    /// Nobody waits for it any more.
    pub fn give_up(&self) {
        drop(self.end());
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// What can be had from the pipe, which is looked at first. The bytes that are ready must be taken before anybody
    /// else takes some.
    pub(super) fn look(&self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        let ready = pipe.ready_lines()?;
        // What cannot be looked at, for want of files, is not held back.
        if let Ready::Bytes(length) = ready
            && pipe.look(|bytes| self.is_in(&bytes[..length.min(bytes.len())])) == Ok(true)
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

    /// It was found.
    pub(super) fn found(&self) {
        if let Some(Waiting { tell, .. }) = self.end() {
            // Who waited may have gone.
            let _ = tell.send(());
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
