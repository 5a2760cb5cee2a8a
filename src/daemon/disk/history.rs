//! What happened to the apps, on disk: the events that [`super::super::rpc::bus`] publishes, one JSON object a line, in `history.ndjson`
//! of the home, for `pmr history` and `pmr explain`. Bounded: a few files of a few megabytes.
//!
//! What apps say by `process.send` stays out: it is theirs, and may be secret. Lines go through a bounded queue to a
//! thread of their own, so a slow disk holds up nobody; what does not fit is lost, and so are the last few lines before
//! a `kill -9` of the daemon.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use super::rotate::Rotating;
use crate::protocol::EventKind;

/// Where a file is set aside.
const LARGEST: u64 = 4 << 20;
/// How many of those are kept.
const KEPT: u32 = 3;
const QUEUED_LINES: usize = 4096;
/// How long our end waits for what is still to be written: a disk may hang.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The way to the file.
pub struct History {
    lines: Option<SyncSender<Box<[u8]>>>,
    /// Hangs up when all is written after our end.
    written: Receiver<()>,
}

impl History {
    /// Starts the thread. The file is opened with the first line.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start(path: PathBuf) -> io::Result<History> {
        let (lines, queue) = mpsc::sync_channel::<Box<[u8]>>(QUEUED_LINES);
        let mut file = Rotating::new(path, LARGEST, KEPT);
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

    /// True if such events are written down.
    #[must_use]
    pub fn keeps(kind: &EventKind) -> bool {
        !matches!(kind, EventKind::Message { .. } | EventKind::Lost { .. })
    }

    /// Writes down the line of an event.
    pub fn note(&self, line: &str) {
        // One that does not fit is lost: to wait would hold up every app.
        let _ = self.lines.as_ref().map(|lines| lines.try_send(line.as_bytes().into()));
    }
}

impl Drop for History {
    /// Waits for what is still to be written, within reason.
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.written.recv_timeout(LAST_WORDS);
    }
}
