//! The daemon's state on disk, as it changes: for the next boot, and for the case that the keeper and God die both.
//!
//! ```text
//!  God ──commit──► ledger (memory) ──sink──► inbox ──► writer (a thread) ──► PMR_HOME/journal
//!                        └────────── the whole, when the inbox is too small ──►┘
//! ```
//!
//! God never waits for the disk: the sink copies a payload into the `Inbox`, which is bounded. What does not fit is
//! dropped, and so is what could not be written; then the writer replaces the whole file with what is in the ledger, which
//! has everything. It does the same when the file has grown long. So there is one road out of every trouble, and no
//! memory that grows with its length.
//!
//! A crash of ours loses nothing that was written, so nothing is synced on the way. What an operator asked for is synced
//! within a second, since after a power cut it should be there.
//!
//! The file has the format of [`crate::keeper::frames`]; its first frame is the `Head`. A daemon with nothing to
//! write down leaves the file of the one before untouched, so a boot that is cut short loses nothing either; when it has,
//! the other's file is kept as `journal.before`.

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

/// The version this build writes. It reads this one and those before.
const FORMAT: u32 = 1;
/// Key of the first record of the file.
const HEAD: &str = "journal";
/// Keys of what is not there any more when our processes are gone: open files, and who had which connection.
const FLEETING: [&str; 2] = ["fd/", "cluster/"];
/// Keys of what changes when an operator asks for something.
const ASKED: [&str; 3] = ["spec/", "work/", super::desired::ENDING];
/// Bytes that wait for the disk at most.
const WAITING: usize = 256 << 10;
/// How long the end of the daemon waits for a slow disk.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What the file begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// Of the boot it was written in, from the kernel.
    boot: String,
    /// The same in a daemon and those who went on with its processes.
    lineage: String,
}

/// How the journal is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JournalState {
    /// It has everything, or soon.
    #[default]
    Whole,
    /// It cannot be written.
    Broken {
        /// The system's words.
        error: String,
        /// From when on.
        since: EpochMs,
    },
}

/// The way to the writer. Dropped, it waits for what is still to be written, but not for ever.
pub struct Journal {
    shared: Arc<Shared>,
    writer: Thread,
    ended: mpsc::Receiver<()>,
}

struct Shared {
    path: PathBuf,
    before: PathBuf,
    lineage: String,
    inbox: Mutex<Inbox>,
    state: Mutex<JournalState>,
}

/// What God has for the writer.
#[derive(Debug, Default)]
struct Inbox {
    /// Frames.
    bytes: Vec<u8>,
    /// Something did not fit: the whole file is to be written.
    overflown: bool,
    /// Something among it was asked for by an operator.
    asked: bool,
    /// Where the ledger is now.
    ledger: Option<OwnedFd>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while he held it left nothing half done: each change is one assignment or one append.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Journal {
    /// Writes down what is committed to the ledger, from now on. Goes on with the journal of this line, if that is what
    /// lies there; `inherited` if the ledger has records of it already.
    pub fn start(home: &Home, ledger: &Ledger, lineage: &str, inherited: bool) -> io::Result<Journal> {
        let inbox = Mutex::new(Inbox { overflown: inherited, ..Inbox::default() });
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
        ledger.set_sink(Box::new(Feed { shared: Arc::clone(&shared), writer: writer.clone() }))?;
        Ok(Journal { shared, writer, ended })
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> JournalState {
        lock(&self.shared.state).clone()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&self.shared.inbox).closed = true;
        self.writer.unpark();
        if self.ended.recv_timeout(LAST_WORDS) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(
                "{}: the disk is too slow to wait for: the last changes may be lost",
                self.path().display()
            );
        }
    }
}

/// What the ledger writes its records to as well.
struct Feed {
    shared: Arc<Shared>,
    writer: Thread,
}

impl RecordSink for Feed {
    fn written(&self, payload: &[u8]) {
        let mut kept = Vec::with_capacity(payload.len());
        let mut asked = false;
        for line in payload.split_inclusive(|byte| *byte == b'\n').filter(|line| is_lasting(line)) {
            asked |= ASKED.iter().any(|key| line.starts_with(key.as_bytes()));
            kept.extend_from_slice(line);
        }
        if kept.is_empty() {
            return;
        }
        let mut inbox = lock(&self.shared.inbox);
        inbox.asked |= asked;
        if inbox.overflown || inbox.bytes.len() + kept.len() > WAITING {
            inbox.overflown = true;
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

fn is_lasting(line: &[u8]) -> bool {
    !FLEETING.iter().any(|key| line.starts_with(key.as_bytes()))
}

/// An id of the kernel's.
fn kernel_random(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/sys/kernel/random/{name}"))?.trim().to_owned())
}
