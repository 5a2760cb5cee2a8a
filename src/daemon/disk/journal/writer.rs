//! The thread that writes the journal. All work on its file is done here, so that a slow disk blocks only this thread.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{FORMAT, HEAD, Head, Inbox, JournalState, Shared, is_persistent, lock, read};
use crate::keeper::{Records, frames, ledger};
use crate::os::clock;
use crate::os::fs::replace;

/// A file of at most this many bytes is not rewritten.
const MIN_REWRITE_BYTES: u64 = 256 << 10;
/// A file that has grown to this many times the length it had when it was last rewritten is rewritten.
const REWRITE_FACTOR: u64 = 4;
/// From one sync to the next at least.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The wait after the first failure; each further failure doubles it up to [`MAX_RETRY_DELAY`].
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(15);

/// The state of the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// The kernel's `boot_id`.
    boot: String,
    /// The file of the ledger, from which all records are read for a rewrite.
    ledger: Option<OwnedFd>,
    /// The file; `None` until this writer has written it once, and after an error.
    open: Option<Open>,
    /// Changes are missing in the file: it must be rewritten.
    incomplete: bool,
    /// Set after a failure: nothing is written before its time.
    retry: Option<Retry>,
    /// A change that an operator requested is written and not synced.
    unsynced: bool,
    last_sync: Option<Instant>,
}

struct Open {
    file: File,
    length: u64,
    /// The length after the last rewrite.
    rewritten_length: u64,
}

impl Open {
    /// False if the file was deleted, or another was put in its place.
    fn is_at(&self, path: &Path) -> bool {
        let id = |known: Metadata| (known.dev(), known.ino());
        fs::metadata(path).ok().map(id) == self.file.metadata().ok().map(id)
    }
}

#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, boot: String) -> Writer {
        let (ledger, open, retry, last_sync) = Default::default();
        Writer { shared, boot, ledger, open, incomplete: false, retry, unsynced: false, last_sync }
    }

    /// Writes what comes into the inbox, until the inbox is closed.
    pub(crate) fn run(mut self) {
        loop {
            let inbox = std::mem::take(&mut *lock(&self.shared.inbox));
            let closed = inbox.closed;
            if closed {
                // This is the last attempt: it must not wait for the next retry or sync.
                (self.retry, self.last_sync) = (None, None);
            }
            self.write(inbox);
            if closed {
                return;
            }
            match self.next_deadline() {
                Some(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sync = self.last_sync.filter(|_| self.unsynced).map(|last| last + SYNC_INTERVAL);
        self.retry.map(|retry| retry.at).into_iter().chain(sync).min()
    }

    fn write(&mut self, inbox: Inbox) {
        let Inbox { bytes, overflowed, needs_sync, ledger, closed: _ } = inbox;
        self.ledger = ledger.or(self.ledger.take());
        self.incomplete |= overflowed || (self.open.is_none() && !bytes.is_empty());
        if self.retry.is_some_and(|retry| Instant::now() < retry.at) {
            return;
        }
        let done = if self.incomplete { self.rewrite() } else { self.append(&bytes, needs_sync) };
        match done.and_then(|()| self.sync()) {
            Ok(()) => self.mark_working(),
            Err(error) => self.mark_failing(&error),
        }
    }

    fn append(&mut self, bytes: &[u8], needs_sync: bool) -> io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        let longest = (open.rewritten_length * REWRITE_FACTOR).max(MIN_REWRITE_BYTES);
        if open.length > longest || !open.is_at(&self.shared.path) {
            return self.rewrite();
        }
        open.file.write_all(bytes)?;
        open.length += bytes.len() as u64;
        self.unsynced |= needs_sync;
        Ok(())
    }

    /// Syncs changes that an operator requested: at once, but not twice within [`SYNC_INTERVAL`].
    fn sync(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due = self.unsynced && self.last_sync.is_none_or(|last| last + SYNC_INTERVAL <= now);
        if let Some(open) = self.open.as_ref().filter(|_| due) {
            open.file.sync_data()?;
            (self.unsynced, self.last_sync) = (false, Some(now));
        }
        Ok(())
    }

    /// Replaces the file by one with all records of the ledger. The file of another lineage stays as long as there is no
    /// app in the ledger.
    fn rewrite(&mut self) -> io::Result<()> {
        let Some(mut records) = self.read_ledger()? else { return Ok(()) };
        records.retain(|key, _| is_persistent(key.as_bytes()));
        let found = read::head(&self.shared.path);
        let ours = self.open.is_some() || matches!(&found, Ok(Some(head)) if head.lineage == self.shared.lineage);
        if !ours {
            if !records.keys().any(|key| key.starts_with("spec/")) {
                self.incomplete = false;
                return Ok(());
            }
            self.keep_found(found)?;
        }
        let bytes = self.file_of(&records)?;
        let file = replace::replace(&self.shared.path, |file| file.write_all(&bytes))?;
        let length = bytes.len() as u64;
        self.open = Some(Open { file, length, rewritten_length: length });
        (self.incomplete, self.unsynced, self.last_sync) = (false, false, Some(Instant::now()));
        Ok(())
    }

    /// All records that were written to the ledger so far. They include what is in the inbox, which is emptied. `None` if
    /// the ledger has no file yet.
    fn read_ledger(&mut self) -> io::Result<Option<Records>> {
        let mut inbox = lock(&self.shared.inbox);
        self.ledger = inbox.ledger.take().or(self.ledger.take());
        let Some(ledger) = &self.ledger else { return Ok(None) };
        let length = ledger::length(ledger)?;
        (inbox.bytes, inbox.overflowed, inbox.needs_sync) = (Vec::new(), false, false);
        drop(inbox);
        ledger::read_first(ledger, length).map(Some)
    }

    fn file_of(&self, records: &Records) -> io::Result<Vec<u8>> {
        let head = Head { format: FORMAT, boot: self.boot.clone(), lineage: self.shared.lineage.clone() };
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        frames::add(&mut first, HEAD, Some(&serde_json::to_string(&head)?));
        records.iter().for_each(|(key, json)| frames::add(&mut rest, key, Some(json)));
        Ok([frames::frame(&first), frames::frame(&rest)].concat())
    }

    /// Keeps the file that was found in place of ours: a journal of another lineage as `journal.before`, any other file
    /// set aside.
    fn keep_found(&self, found: io::Result<Option<Head>>) -> io::Result<()> {
        match found {
            Ok(Some(_)) => replace::keep_as(&self.shared.path, &self.shared.before),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                read::set_aside(&self.shared.path, &error.to_string()).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn mark_working(&mut self) {
        self.retry = None;
        let mut state = lock(&self.shared.state);
        if matches!(*state, JournalState::Failing { .. }) {
            tracing::info!("{} can be written again and is complete", self.shared.path.display());
        }
        *state = JournalState::Working;
    }

    fn mark_failing(&mut self, error: &io::Error) {
        // The file must be rewritten: it may end with a part of a frame.
        (self.open, self.incomplete, self.unsynced) = (None, true, false);
        let pause = self.retry.map_or(MIN_RETRY_DELAY, |retry| (retry.pause * 2).min(MAX_RETRY_DELAY));
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
        let mut state = lock(&self.shared.state);
        let since = match &*state {
            JournalState::Failing { since, .. } => *since,
            JournalState::Working => {
                let path = self.shared.path.display();
                tracing::error!(
                    "the state cannot be written to {path}: {error}; the apps run on, and it is tried again"
                );
                clock::epoch_ms()
            }
        };
        let words = error.to_string();
        let error = words.split(" (os error").next().unwrap_or(&words).to_owned();
        *state = JournalState::Failing { error, since };
    }
}
