//! The journal: the daemon's state on disk, written as it changes. It is read at the next boot, and when the keeper and God
//! have both died.
//!
//! ```text
//!  God ──commit──► ledger (memory) ──sink─► inbox ──► writer (a thread) ──► PMR_HOME/journal
//!                        └──── all records, after an overflow or error ──►┘
//! ```
//!
//! God never waits for the disk: the sink copies a payload into the `Inbox`, which is bounded. When a payload does not fit,
//! or the file cannot be written, payloads are dropped, and the writer later replaces the whole file with the records of
//! the ledger, which has all of them. It also does so when the file has grown long. So all errors are repaired in the same
//! way, and memory does not grow while the disk fails.
//!
//! A crash of the daemon loses nothing that was passed to the kernel, so most changes are not synced. Changes that an
//! operator requested are synced within a second, since they should survive a power cut.
//!
//! The file has the format of [`crate::keeper::frames`]; its first frame is the `Head`. A daemon of another lineage leaves
//! the file alone until it has an app of its own, so a boot that is interrupted loses nothing. Then it keeps the earlier
//! file as `journal.before`.

mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{Builder, Thread};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use read::{Loaded, lineage, load, of_this_boot};

use crate::keeper::ledger::RecordSink;
use crate::keeper::{Ledger, frames};
use crate::paths::Home;
use crate::protocol::info::EpochMs;
use writer::Writer;

/// The version of the format that this build writes. It reads this version and those before.
const FORMAT: u32 = 1;
/// Key of the first record of the file.
const HEAD: &str = "journal";
/// Prefixes of keys that are left out, since they mean nothing without the processes of the daemon: open files, and
/// where each connection is.
const TRANSIENT: [&str; 2] = ["fd/", "cluster/"];
/// Prefixes of keys that change when an operator makes a request, so that these changes are synced.
const SYNCED: [&str; 3] = ["spec/", "work/", super::desired::ENDING];
/// Bytes that the inbox holds at most.
const INBOX_BYTES: usize = 256 << 10;
/// How long the end of the daemon waits until all is written: a disk may hang.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The first record of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// The kernel's `boot_id` when the file was written.
    boot: String,
    /// The lineage of the daemon that wrote the file.
    lineage: String,
}

/// Whether the journal can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JournalState {
    /// All changes are written, or will be soon.
    #[default]
    Working,
    /// The last attempt to write failed; it is repeated.
    Failing {
        /// The error of the system, without its number.
        error: String,
        /// When the first of the failed attempts was.
        since: EpochMs,
    },
}

/// The journal of this daemon. Dropping it waits until all changes are written, for `FLUSH_TIMEOUT` at most.
pub struct Journal {
    shared: Arc<Shared>,
    writer: Thread,
    /// Closed when the writer has ended.
    ended: mpsc::Receiver<()>,
}

/// What the journal, its tap and its writer share.
struct Shared {
    path: PathBuf,
    /// Where the file of a daemon of another lineage is kept.
    before: PathBuf,
    lineage: String,
    inbox: Mutex<Inbox>,
    state: Mutex<JournalState>,
}

/// What the tap has put in for the writer since the writer last took it.
#[derive(Debug, Default)]
struct Inbox {
    /// Frames to append to the file.
    bytes: Vec<u8>,
    /// Frames were dropped, since they did not fit: the whole file must be written.
    overflowed: bool,
    /// The frames contain a change that must be synced.
    needs_sync: bool,
    /// The file of the ledger, if it is another than before.
    ledger: Option<OwnedFd>,
    /// The daemon ends: the writer is to write all and then end.
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock leaves no change half made: each is one assignment or one append.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Journal {
    /// Writes what is committed to the ledger from now on. Continues the file if it is of this lineage. `inherited` is
    /// true if the ledger has records already, which may not be in the file.
    pub fn start(home: &Home, ledger: &Ledger, lineage: &str, inherited: bool) -> io::Result<Journal> {
        let inbox = Mutex::new(Inbox { overflowed: inherited, ..Inbox::default() });
        let lineage = lineage.to_owned();
        let (path, before, state) = (home.journal(), home.journal_before(), Mutex::default());
        let shared = Arc::new(Shared { path, before, lineage, inbox, state });
        let (ended_in, ended) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), kernel_random("boot_id")?);
        let thread = Builder::new().name("journal".into()).stack_size(512 << 10).spawn(move || {
            writer.run();
            drop(ended_in);
        })?;
        let writer = thread.thread().clone();
        ledger.set_sink(Box::new(JournalSink { shared: Arc::clone(&shared), writer: writer.clone() }))?;
        Ok(Journal { shared, writer, ended })
    }

    /// Whether the journal can be written at present.
    #[must_use]
    pub fn state(&self) -> JournalState {
        lock(&self.shared.state).clone()
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&self.shared.inbox).closed = true;
        self.writer.unpark();
        if self.ended.recv_timeout(FLUSH_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("{}: not written in time: the last changes may be lost", self.path().display());
        }
    }
}

/// Copies what is written to the ledger into the inbox and wakes the writer.
struct JournalSink {
    shared: Arc<Shared>,
    writer: Thread,
}

impl RecordSink for JournalSink {
    fn written(&self, payload: &[u8]) {
        let mut kept = Vec::with_capacity(payload.len());
        let mut needs_sync = false;
        for line in payload.split_inclusive(|byte| *byte == b'\n').filter(|line| is_persistent(line)) {
            needs_sync |= SYNCED.iter().any(|key| line.starts_with(key.as_bytes()));
            kept.extend_from_slice(line);
        }
        if kept.is_empty() {
            return;
        }
        let mut inbox = lock(&self.shared.inbox);
        inbox.needs_sync |= needs_sync;
        if inbox.overflowed || inbox.bytes.len() + kept.len() > INBOX_BYTES {
            inbox.overflowed = true;
            inbox.bytes = Vec::new();
        } else {
            inbox.bytes.extend_from_slice(&frames::header(&kept));
            inbox.bytes.extend_from_slice(&kept);
        }
        drop(inbox);
        self.writer.unpark();
    }

    fn moved(&self, file: OwnedFd) {
        lock(&self.shared.inbox).ledger = Some(file);
        self.writer.unpark();
    }
}

/// True if the record in this line, which begins with its key, is written to the journal.
fn is_persistent(line: &[u8]) -> bool {
    !TRANSIENT.iter().any(|key| line.starts_with(key.as_bytes()))
}

/// An id from `/proc/sys/kernel/random`.
fn kernel_random(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/sys/kernel/random/{name}"))?.trim().to_owned())
}
