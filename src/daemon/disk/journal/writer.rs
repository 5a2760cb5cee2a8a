//! The thread that writes the journal. Everything slow happens here.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{FORMAT, HEAD, Head, Inbox, JournalState, Shared, is_lasting, lock, read};
use crate::keeper::{Records, frames, ledger};
use crate::os::clock;
use crate::os::fs::replace;

/// Before this many bytes the file is not written anew.
const SMALL: u64 = 256 << 10;
/// A file this many times as long as when it was written anew is long.
const SLACK: u64 = 4;
/// Between two syncs.
const SYNC_PAUSE: Duration = Duration::from_secs(1);
/// The first wait before what failed is tried again; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    boot: String,
    /// What all is read from.
    ledger: Option<OwnedFd>,
    /// The file, once it is ours.
    open: Option<Open>,
    /// The file lacks something: all is to be written.
    behind: bool,
    retry: Option<Retry>,
    /// Something that an operator asked for is written and not synced.
    unsynced: bool,
    last_sync: Option<Instant>,
}

struct Open {
    file: File,
    length: u64,
    /// The length it had when it was written anew.
    first: u64,
}

impl Open {
    /// False if somebody deleted it, or put another in its place.
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
        Writer { shared, boot, ledger, open, behind: false, retry, unsynced: false, last_sync }
    }

    /// Lives until the journal is closed.
    pub(crate) fn run(mut self) {
        loop {
            let inbox = std::mem::take(&mut *lock(&self.shared.inbox));
            let closed = inbox.closed;
            if closed {
                // No time to wait any longer.
                (self.retry, self.last_sync) = (None, None);
            }
            self.serve(inbox);
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
        let sync = self.last_sync.filter(|_| self.unsynced).map(|last| last + SYNC_PAUSE);
        self.retry.map(|retry| retry.at).into_iter().chain(sync).min()
    }

    fn serve(&mut self, inbox: Inbox) {
        let Inbox { bytes, overflown, asked, ledger, closed: _ } = inbox;
        self.ledger = ledger.or(self.ledger.take());
        self.behind |= overflown || (self.open.is_none() && !bytes.is_empty());
        if self.retry.is_some_and(|retry| Instant::now() < retry.at) {
            return;
        }
        let done = if self.behind { self.write_all() } else { self.append(&bytes, asked) };
        match done.and_then(|()| self.sync()) {
            Ok(()) => self.well(),
            Err(error) => self.broken(&error),
        }
    }

    fn append(&mut self, bytes: &[u8], asked: bool) -> io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        if open.length > (open.first * SLACK).max(SMALL) || !open.is_at(&self.shared.path) {
            return self.write_all();
        }
        open.file.write_all(bytes)?;
        open.length += bytes.len() as u64;
        self.unsynced |= asked;
        Ok(())
    }

    /// Brings to the disk what an operator asked for: at once, but not twice within the pause.
    fn sync(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due = self.unsynced && self.last_sync.is_none_or(|last| last + SYNC_PAUSE <= now);
        if let Some(open) = self.open.as_ref().filter(|_| due) {
            open.file.sync_data()?;
            (self.unsynced, self.last_sync) = (false, Some(now));
        }
        Ok(())
    }

    /// Puts all that is in the ledger in the place of the file.
    fn write_all(&mut self) -> io::Result<()> {
        let Some(mut records) = self.all()? else { return Ok(()) };
        records.retain(|key, _| is_lasting(key.as_bytes()));
        let there = read::head(&self.shared.path);
        let ours = self.open.is_some() || matches!(&there, Ok(Some(head)) if head.lineage == self.shared.lineage);
        if !ours {
            if !records.keys().any(|key| key.starts_with("spec/")) {
                self.behind = false;
                return Ok(());
            }
            self.make_way(there)?;
        }
        let bytes = self.file_of(&records)?;
        let file = replace::replace(&self.shared.path, |file| file.write_all(&bytes))?;
        let length = bytes.len() as u64;
        self.open = Some(Open { file, length, first: length });
        (self.behind, self.unsynced, self.last_sync) = (false, false, Some(Instant::now()));
        Ok(())
    }

    /// All that was written so far; what waits in the inbox is among it.
    fn all(&mut self) -> io::Result<Option<Records>> {
        let mut inbox = lock(&self.shared.inbox);
        self.ledger = inbox.ledger.take().or(self.ledger.take());
        let Some(ledger) = &self.ledger else { return Ok(None) };
        let length = ledger::length(ledger)?;
        (inbox.bytes, inbox.overflown, inbox.asked) = (Vec::new(), false, false);
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

    /// Keeps the file of another line.
    fn make_way(&self, there: io::Result<Option<Head>>) -> io::Result<()> {
        match there {
            Ok(Some(_)) => replace::keep_as(&self.shared.path, &self.shared.before),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                read::set_aside(&self.shared.path, &error.to_string()).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn well(&mut self) {
        self.retry = None;
        let mut state = lock(&self.shared.state);
        if matches!(*state, JournalState::Broken { .. }) {
            tracing::info!("{} can be written again, and has everything", self.shared.path.display());
        }
        *state = JournalState::Whole;
    }

    fn broken(&mut self, error: &io::Error) {
        // A part of a frame may stand at the end of the file.
        (self.open, self.behind, self.unsynced) = (None, true, false);
        let pause = self.retry.map_or(FIRST_RETRY, |retry| (retry.pause * 2).min(LAST_RETRY));
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
        let mut state = lock(&self.shared.state);
        let since = match &*state {
            JournalState::Broken { since, .. } => *since,
            JournalState::Whole => {
                let path = self.shared.path.display();
                tracing::error!("the state cannot be written to {path}: {error}; apps run on, and it is tried again");
                clock::epoch_ms()
            }
        };
        let words = error.to_string();
        let error = words.split(" (os error").next().unwrap_or(&words).to_owned();
        *state = JournalState::Broken { error, since };
    }
}
