//! God's present state, where it outlives God: records in a file in memory, which the keeper has open, too.
//!
//! A write costs one system call and no disk access. The journal on disk, for the next boot, is fed from here in its
//! own time. A God that is killed while it writes leaves a frame that does not count.
//!
//! Open files are kept by name. The record `fd/NAME` holds the number of the descriptor and the identity of the file
//! behind it, so that a number which was given to another file is not taken for the kept one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::frames::{self, Records};
use super::shared_memory::{FdSlot, SharedMemory};
use crate::os::fs::files::FileId;
use crate::os::killpoint;

/// A file shorter than this, in bytes, is not compacted.
const SMALL: u64 = 1 << 20;
/// A file this many times as long as the records that count in it is compacted.
const SLACK: u64 = 4;
/// Key of the record with the version of the format.
const FORMAT: &str = "format";
/// The version of the format that this program writes. It reads this one and those before.
pub const FORMAT_VERSION: u32 = 1;
/// Prefix of the keys of kept files.
const FILE: &str = "fd/";

/// Receives a copy of all that is written to a ledger, for the journal on disk.
pub trait RecordSink {
    /// Called after these records were written, with one payload (see [`frames`]).
    fn written(&self, payload: &[u8]);
    /// Called when the ledger moves to another file, which holds all records so far and gets all later ones.
    fn moved(&self, file: OwnedFd);
}

/// The ledger of one God. Clones write to the same file.
#[derive(Clone)]
pub struct Ledger {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    shared_memory: Rc<SharedMemory>,
    file: OwnedFd,
    /// Bytes in the file that count as written.
    length: u64,
    /// Length of the last record of each key, in bytes.
    sizes: HashMap<String, usize>,
    /// Sum of these lengths.
    live: u64,
    /// Records that are not written yet.
    payload: Vec<u8>,
    sink: Option<Box<dyn RecordSink>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("records", &self.inner.borrow().sizes.len()).finish()
    }
}

/// Reads all records of a ledger's file.
///
/// # Errors
/// If the file cannot be read. Damage is no error; it ends the records.
pub fn read(file: impl AsFd) -> io::Result<Records> {
    let length = length(&file)?;
    read_first(file, length)
}

/// Length of a ledger's file, in bytes.
///
/// # Errors
/// None is known.
pub fn length(file: impl AsFd) -> io::Result<usize> {
    Ok(usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Reads the records as they were when the file had this length.
///
/// # Errors
/// Those of [`read`].
pub fn read_first(file: impl AsFd, length: usize) -> io::Result<Records> {
    let mut records = Records::new();
    frames::read(&contents(file.as_fd(), length)?, &mut records);
    Ok(records)
}

/// The version of the format that a ledger was written in; 0 if it has no such record.
#[must_use]
pub fn format(records: &Records) -> u32 {
    records.get(FORMAT).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The files that a ledger keeps: the name, and which file under which number.
pub fn kept(records: &Records) -> impl Iterator<Item = (&str, FileId)> {
    records
        .range(FILE.to_owned()..)
        .map_while(|(key, json)| Some((key.strip_prefix(FILE)?, json)))
        .filter_map(|(name, json)| Some((name, serde_json::from_str(json).ok()?)))
}

fn contents(file: std::os::fd::BorrowedFd<'_>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut at = 0;
    while at < length {
        match rustix::io::pread(file, &mut bytes[at..], at as u64)? {
            0 => break,
            count => at += count,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

impl Ledger {
    /// Makes a new ledger with these records, which becomes the one that the next God reads.
    ///
    /// # Errors
    /// If there is no memory or descriptor to be had.
    pub fn start(shared_memory: Rc<SharedMemory>, records: &Records) -> io::Result<Ledger> {
        let file = create()?;
        let inner =
            Inner { shared_memory, file, length: 0, sizes: HashMap::new(), live: 0, payload: Vec::new(), sink: None };
        let ledger = Ledger { inner: Rc::new(RefCell::new(inner)) };
        ledger.put(FORMAT, &FORMAT_VERSION.to_string());
        for (key, json) in records.iter().filter(|(key, _)| *key != FORMAT) {
            ledger.put(key, json);
        }
        let mut inner = ledger.inner.borrow_mut();
        inner.write()?;
        killpoint::pass("ledger-written");
        inner.shared_memory.set_fd_slot(FdSlot::Ledger, Some(inner.file.as_raw_fd()));
        killpoint::pass("ledger-started");
        drop(inner);
        Ok(ledger)
    }

    /// Writes a record with the next [`Ledger::commit`]. `json` has no raw line breaks.
    pub fn put(&self, key: &str, json: &str) {
        self.inner.borrow_mut().add(key, Some(json));
    }

    /// Removes a record with the next [`Ledger::commit`].
    pub fn remove(&self, key: &str) {
        self.inner.borrow_mut().add(key, None);
    }

    /// Keeps an open file under a name, at once, so that the next God finds it. The file must stay open under its
    /// number until [`Ledger::release`].
    pub fn keep(&self, name: &str, file: impl AsFd) {
        let json = FileId::of(file).and_then(|id| Ok(serde_json::to_string(&id)?));
        match json {
            Ok(json) => {
                self.put(&format!("{FILE}{name}"), &json);
                self.commit();
            }
            Err(error) => tracing::error!(name, %error, "a file cannot be kept for the next daemon"),
        }
    }

    /// Ends the keeping of a file. To be called before the file is closed.
    pub fn release(&self, name: &str) {
        let key = format!("{FILE}{name}");
        if self.inner.borrow().sizes.contains_key(&key) {
            self.remove(&key);
            self.commit();
        }
    }

    /// Writes all changes since the last commit, whole or not at all. If memory is short, they stay for the next
    /// commit.
    pub fn commit(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.payload.is_empty() {
            return;
        }
        if let Err(error) = inner.write().and_then(|()| inner.compact_if_long()) {
            tracing::error!(%error, "the daemon's state cannot be written to memory: trying again with the next change");
        }
    }

    /// Has `sink` receive all that is written from now on, and at once the file with what was written before.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn set_sink(&self, sink: Box<dyn RecordSink>) -> io::Result<()> {
        sink.moved(self.file()?);
        self.inner.borrow_mut().sink = Some(sink);
        Ok(())
    }

    /// A new descriptor of the present file, for reading.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn file(&self) -> io::Result<OwnedFd> {
        self.inner.borrow().file.try_clone()
    }
}

impl Inner {
    fn add(&mut self, key: &str, json: Option<&str>) {
        let before = self.payload.len();
        frames::add(&mut self.payload, key, json);
        let size = self.payload.len() - before;
        let old = match json {
            Some(_) => self.sizes.insert(key.to_owned(), size),
            None => self.sizes.remove(key),
        };
        self.live += if json.is_some() { size as u64 } else { 0 };
        self.live -= old.unwrap_or(0) as u64;
    }

    fn write(&mut self) -> io::Result<()> {
        let frame = frames::frame(&self.payload);
        append(&self.file, self.length, &frame)?;
        self.length += frame.len() as u64;
        if let Some(sink) = &self.sink {
            sink.written(&self.payload);
        }
        self.payload.clear();
        self.payload.shrink_to(64 << 10);
        Ok(())
    }

    /// Writes the records that count to a new file, which takes the place of the old one in one step.
    fn compact_if_long(&mut self) -> io::Result<()> {
        if self.length < SMALL || self.length < self.live * SLACK {
            return Ok(());
        }
        let mut payload = Vec::new();
        for (key, json) in read(&self.file)? {
            frames::add(&mut payload, &key, Some(&json));
        }
        let (file, frame) = (create()?, frames::frame(&payload));
        append(&file, 0, &frame)?;
        killpoint::pass("compacting");
        let second = self.sink.is_some().then(|| file.try_clone()).transpose()?;
        self.shared_memory.set_fd_slot(FdSlot::Ledger, Some(file.as_raw_fd()));
        killpoint::pass("compacted");
        self.file = file;
        self.length = frame.len() as u64;
        if let (Some(sink), Some(second)) = (&self.sink, second) {
            sink.moved(second);
        }
        Ok(())
    }
}

fn create() -> io::Result<OwnedFd> {
    Ok(memfd_create("pmr-ledger", MemfdFlags::CLOEXEC)?)
}

/// Writes all bytes at the offset `at`, the end of the file, or leaves the file at that length.
fn append(file: &OwnedFd, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::pwrite(file, &bytes[written..], at + written as u64) {
            Ok(count) if count > 0 => written += count,
            Err(rustix::io::Errno::INTR) => {}
            failed => {
                let _ = ftruncate(file, at);
                return Err(failed.err().map_or(io::ErrorKind::WriteZero.into(), io::Error::from));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(records: &[(&str, &str)]) -> (Rc<SharedMemory>, Ledger) {
        let shared_memory = Rc::new(SharedMemory::new().unwrap());
        let records = records.iter().map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect();
        (shared_memory.clone(), Ledger::start(shared_memory, &records).unwrap())
    }

    fn written(ledger: &Ledger) -> Records {
        let mut records = read(ledger.file().unwrap()).unwrap();
        records.remove(FORMAT);
        records
    }

    #[test]
    fn only_committed_changes_are_written() {
        let (_shared_memory, ledger) = start(&[("a", "1")]);
        ledger.put("b", "2");
        ledger.remove("a");
        assert_eq!(written(&ledger), Records::from([("a".into(), "1".into())]));
        ledger.commit();
        assert_eq!(written(&ledger), Records::from([("b".into(), "2".into())]));
        assert_eq!(format(&read(ledger.file().unwrap()).unwrap()), FORMAT_VERSION);
    }

    #[test]
    fn files_are_kept_by_name_until_released() {
        let (_shared_memory, ledger) = start(&[]);
        let file = std::fs::File::open("/dev/null").unwrap();
        ledger.keep("log/7/out", &file);
        let records = read(ledger.file().unwrap()).unwrap();
        let all: Vec<_> = kept(&records).collect();
        assert_eq!(all, [("log/7/out", FileId::of(&file).unwrap())]);
        ledger.release("log/7/out");
        ledger.release("never kept");
        assert!(written(&ledger).is_empty());
    }

    /// Collects the records, and holds the last file and how often there was a new one.
    #[derive(Clone, Default)]
    struct Collector(Rc<RefCell<(Records, Option<OwnedFd>, usize)>>);

    impl RecordSink for Collector {
        fn written(&self, payload: &[u8]) {
            frames::read(&frames::frame(payload), &mut self.0.borrow_mut().0);
        }

        fn moved(&self, file: OwnedFd) {
            let mut received = self.0.borrow_mut();
            (received.1, received.2) = (Some(file), received.2 + 1);
        }
    }

    #[test]
    fn a_sink_receives_every_record_and_always_has_the_present_file() {
        let (_shared_memory, ledger) = start(&[("before", "1")]);
        let sink = Collector::default();
        ledger.set_sink(Box::new(sink.clone())).unwrap();
        let long = format!("\"{}\"", "x".repeat(100_000));
        for round in 0..50 {
            ledger.put(&format!("k{}", round % 3), &long);
            ledger.commit();
            let received = sink.0.borrow();
            assert_eq!(read(received.1.as_ref().unwrap()).unwrap(), read(ledger.file().unwrap()).unwrap());
        }
        let received = sink.0.borrow();
        assert!(received.0.len() == 3 && received.2 > 1, "the ledger moved {} times", received.2);
    }

    #[test]
    fn the_ledger_stays_short_and_the_shared_memory_always_names_the_present_file() {
        let (shared_memory, ledger) = start(&[("stays", "1")]);
        let long = format!("\"{}\"", "x".repeat(1000));
        for round in 0..5000 {
            ledger.put(&format!("k{}", round % 7), &long);
            ledger.commit();
        }
        let file = ledger.file().unwrap();
        assert!(rustix::fs::fstat(&file).unwrap().st_size < 2 * SMALL as i64);
        assert_eq!(written(&ledger).len(), 8);
        assert_eq!(shared_memory.fd_slot(FdSlot::Ledger), Some(ledger.inner.borrow().file.as_raw_fd()));
    }
}
