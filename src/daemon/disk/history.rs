//! The history on disk: the events that [`super::super::rpc::bus`] publishes, one JSON object a line, in `history.ndjson`
//! of the home, for `pmr history` and `pmr explain`. Bounded: a few files of a few megabytes.
//!
//! Messages that apps send by `process.send` are left out: they belong to the app and may be secret. Lines go through a
//! bounded queue to a thread of their own, so a slow disk does not block God. Lines that do not fit are lost, and so are
//! the last few lines before a `kill -9` of the daemon.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use super::rotate::Rotating;
use crate::protocol::EventKind;

/// Size in bytes at which the file is rotated.
const MAX_BYTES: u64 = 4 << 20;
/// Rotated files that are kept.
const KEPT: u32 = 3;
const QUEUED_LINES: usize = 4096;
/// How long the end of the daemon waits for lines that are still to be written: a disk may hang.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Appends lines to the file by way of the thread.
pub struct History {
    lines: Option<SyncSender<Box<[u8]>>>,
    /// Closed by the thread when `lines` is closed and all lines are written.
    written: Receiver<()>,
}

impl History {
    /// Starts the thread. The file is opened with the first line.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(path: PathBuf) -> io::Result<History> {
        let (lines, queue) = mpsc::sync_channel::<Box<[u8]>>(QUEUED_LINES);
        let mut file = Rotating::new(path, MAX_BYTES, KEPT);
        // Ends with the daemon.
        let (done, written) = mpsc::channel();
        std::thread::Builder::new().name("history".into()).stack_size(256 << 10).spawn(move || {
            for line in queue {
                file.write(&line);
            }
            drop(done);
        })?;
        Ok(History { lines: Some(lines), written })
    }

    /// True if events of this kind are written to the history.
    #[must_use]
    pub fn keeps(kind: &EventKind) -> bool {
        !matches!(kind, EventKind::Message { .. } | EventKind::Lost { .. })
    }

    /// Appends the line of an event, which ends with a line feed.
    pub fn append(&self, line: &str) {
        // A line that does not fit into the queue is lost: to wait would block God.
        let _ = self.lines.as_ref().map(|lines| lines.try_send(line.as_bytes().into()));
    }
}

impl Drop for History {
    /// Waits until all lines are written, for [`FLUSH_TIMEOUT`] at most.
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.written.recv_timeout(FLUSH_TIMEOUT);
    }
}
