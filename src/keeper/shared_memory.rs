//! The memory that the keeper shares with each God: the numbers of the fixed open files, how the last God ended, and
//! where each accepted connection is on its way to a worker.
//!
//! ```text
//! word 0         magic number          word 1         layout
//! words 2..=11   [`Word`]              words 16..=22  [`FdSlot`], each a descriptor + 1, or 0 for none
//! from word 64   four words for each descriptor: state, listener, run (or since when), sequence number
//! ```
//!
//! It is read after a God was killed at any instruction. So each word is valid by itself, and where words depend on
//! each other, the one that gives the others their meaning is written last.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::process::reap::Ended;
use crate::os::shared_memory::Words;

const MAGIC: u64 = 0x706d_725f_6b65_6570;
/// Version of the layout. An upgrade to a program with another one starts from what is on disk.
pub const LAYOUT: u64 = 1;
/// Words before the table of connections.
const HEADER: usize = 64;
/// Words of one connection.
const ENTRY: usize = 4;
/// Connections in the table. One whose descriptor is this high or higher is lost with the God that accepted it.
const ENTRIES: usize = 1 << 16;

/// Words with a fixed meaning; the discriminant is the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// Number of Gods that were started so far, this one included. The keeper counts.
    Generation = 2,
    /// Not 0 once a God was ready, under this keeper or one before it.
    Ready = 3,
    /// Pid of the present God. The keeper sets it after the start.
    God = 4,
    /// How the last God ended, see [`SharedMemory::last_end`].
    LastEnd = 5,
    /// When the last God ended, in ms of the monotonic clock.
    EndedAt = 6,
    /// State of the last upgrade, see [`super::UpgradeProbation`].
    Upgrade = 7,
    /// Number of exits that the keeper had to forget because no God took them.
    ForgottenExits = 8,
    /// The soft limit of open files that the first keeper was started with. Apps get this one, not the daemon's.
    FileLimitSoft = 9,
    /// The hard limit of open files that the first keeper was started with.
    FileLimitHard = 10,
    /// Pid of the guard of an upgrade; 0 if there is none.
    Guard = 11,
}

/// Open files with a fixed meaning. The discriminant is the position of the word that holds the descriptor's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum FdSlot {
    /// The ledger of the present God.
    Ledger = 16,
    /// The ledger of the God before an upgrade, until the probation of the new program is over.
    LedgerBefore = 17,
    /// The socket that God reads exits from.
    ExitsOut = 18,
    /// The socket that the keeper writes exits to.
    ExitsIn = 19,
    /// The locked pid file.
    Lock = 20,
    /// The program that an upgrade is to execute.
    Program = 21,
    /// The program before an upgrade, until the probation of the new one is over.
    ProgramBefore = 22,
}

impl FdSlot {
    /// All slots.
    pub const ALL: [FdSlot; 7] = [
        FdSlot::Ledger,
        FdSlot::LedgerBefore,
        FdSlot::ExitsOut,
        FdSlot::ExitsIn,
        FdSlot::Lock,
        FdSlot::Program,
        FdSlot::ProgramBefore,
    ];
}

/// Where an accepted connection is. God writes it; the next God reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the daemon: no worker has it yet.
    Waiting {
        /// Number of the listener that accepted it, as the cluster counts them.
        listener: u64,
        /// Since when, in ms of the monotonic clock; `None` if it was written by an older version, which kept no time.
        since: Option<u64>,
    },
    /// Written to a worker's channel, or just about to be.
    Handed {
        /// Number of the listener that accepted it.
        listener: u64,
        /// The worker's run.
        run: u64,
        /// Number of the hand-over. Later hand-overs have higher numbers.
        seq: u64,
    },
}

const NOWHERE: u64 = 0;
const WAITING: u64 = 1;
const HANDED: u64 = 2;
/// Set in the word for the run if that word holds the time since when a connection waits. Without this bit it may be
/// the run that the connection was handed to last.
const SINCE: u64 = 1 << 63;

/// The mapped memory. See the module for its layout.
#[derive(Debug)]
pub struct SharedMemory {
    words: Words,
}

impl SharedMemory {
    /// New memory in which all words are 0, but for the magic number and the layout.
    ///
    /// # Errors
    /// If there is no memory or descriptor to be had.
    pub fn new() -> io::Result<SharedMemory> {
        let words = Words::new("pmr", HEADER + ENTRIES * ENTRY)?;
        words.at(1).store(LAYOUT, Ordering::Release);
        words.at(0).store(MAGIC, Ordering::Release);
        Ok(SharedMemory { words })
    }

    /// Maps the memory that another keeper left.
    ///
    /// # Errors
    /// `InvalidData` if the file is something else or has another layout.
    pub fn open(file: OwnedFd) -> io::Result<SharedMemory> {
        let words = Words::open(file)?;
        let is_ours = words.count() == HEADER + ENTRIES * ENTRY && words.at(0).load(Ordering::Acquire) == MAGIC;
        if !is_ours || words.at(1).load(Ordering::Acquire) != LAYOUT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the shared memory has another layout"));
        }
        Ok(SharedMemory { words })
    }

    /// The file behind the memory, to be inherited by the next program.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// The value of a word.
    #[must_use]
    pub fn get(&self, word: Word) -> u64 {
        self.words.at(word as usize).load(Ordering::Acquire)
    }

    /// How the last God ended: bits 32 and up are 1 for an exit code and 2 for a signal, the lower ones its number.
    /// `None` if no God has ended under this keeper.
    #[must_use]
    pub fn last_end(&self) -> Option<Ended> {
        let word = self.get(Word::LastEnd);
        let number = i32::try_from(word & 0xffff_ffff).ok()?;
        match word >> 32 {
            1 => Some(Ended::Code(number)),
            2 => Some(Ended::Signal(number)),
            _ => None,
        }
    }

    /// Writes down how God ended.
    pub fn set_last_end(&self, ended: Ended) {
        let (kind, number) = match ended {
            Ended::Code(code) => (1, code),
            Ended::Signal(number) => (2, number),
        };
        self.set(Word::LastEnd, kind << 32 | u64::from(number.unsigned_abs()));
    }

    /// Sets the value of a word.
    pub fn set(&self, word: Word, value: u64) {
        self.words.at(word as usize).store(value, Ordering::Release);
    }

    /// The number of the descriptor in a slot, if there is one.
    #[must_use]
    pub fn fd_slot(&self, slot: FdSlot) -> Option<RawFd> {
        let number = self.words.at(slot as usize).load(Ordering::Acquire).checked_sub(1)?;
        RawFd::try_from(number).ok()
    }

    /// Sets the number in a slot, or empties the slot. The file itself is not touched.
    pub fn set_fd_slot(&self, slot: FdSlot, number: Option<RawFd>) {
        let word = number.and_then(|number| u64::try_from(number).ok()).map_or(0, |number| number + 1);
        self.words.at(slot as usize).store(word, Ordering::Release);
    }

    fn entry(&self, number: RawFd) -> Option<[&AtomicU64; ENTRY]> {
        let entry = usize::try_from(number).ok().filter(|number| *number < ENTRIES)?;
        let first = HEADER + entry * ENTRY;
        Some([0, 1, 2, 3].map(|word| self.words.at(first + word)))
    }

    /// Writes down where the connection with this descriptor is. A descriptor beyond the table is passed over.
    pub fn put(&self, number: RawFd, place: Place) {
        let Some([state, its_listener, its_run, its_seq]) = self.entry(number) else { return };
        match place {
            Place::Waiting { listener, since } => {
                its_listener.store(listener, Ordering::Release);
                its_run.store(since.map_or(0, |since| since | SINCE), Ordering::Release);
                state.store(WAITING, Ordering::Release);
            }
            Place::Handed { listener, run, seq } => {
                its_listener.store(listener, Ordering::Release);
                its_run.store(run, Ordering::Release);
                its_seq.store(seq, Ordering::Release);
                state.store(HANDED, Ordering::Release);
            }
        }
    }

    /// Forgets a connection. To be called after the descriptor was closed: the next God takes a socket that is open and
    /// has no place for a connection that was accepted just now.
    pub fn clear(&self, number: RawFd) {
        if let Some([state, ..]) = self.entry(number) {
            state.store(NOWHERE, Ordering::Release);
        }
    }

    /// Where the connection with this descriptor is, if that was written down.
    #[must_use]
    pub fn place(&self, number: RawFd) -> Option<Place> {
        let [state, listener, run, seq] = self.entry(number)?.map(|word| word.load(Ordering::Acquire));
        match state {
            WAITING => Some(Place::Waiting { listener, since: (run & SINCE != 0).then_some(run & !SINCE) }),
            HANDED => Some(Place::Handed { listener, run, seq }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_reads_what_was_written() {
        let shared_memory = SharedMemory::new().unwrap();
        shared_memory.set(Word::Generation, 3);
        shared_memory.set_fd_slot(FdSlot::Lock, Some(0));
        shared_memory.put(7, Place::Handed { listener: 1, run: 2, seq: 3 });
        shared_memory.put(8, Place::Waiting { listener: 9, since: Some(10) });
        let successor = SharedMemory::open(shared_memory.file().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((successor.get(Word::Generation), successor.fd_slot(FdSlot::Lock)), (3, Some(0)));
        assert_eq!(successor.fd_slot(FdSlot::Ledger), None);
        assert_eq!(successor.place(7), Some(Place::Handed { listener: 1, run: 2, seq: 3 }));
        assert_eq!(successor.place(8), Some(Place::Waiting { listener: 9, since: Some(10) }));
        successor.clear(8);
        assert_eq!((shared_memory.place(8), shared_memory.place(6)), (None, None));
    }

    #[test]
    fn the_end_of_a_god_is_read_as_it_was_written() {
        let shared_memory = SharedMemory::new().unwrap();
        assert_eq!(shared_memory.last_end(), None);
        for ended in [Ended::Code(0), Ended::Code(75), Ended::Signal(9)] {
            shared_memory.set_last_end(ended);
            assert_eq!(shared_memory.last_end(), Some(ended));
        }
        assert_eq!(shared_memory.get(Word::LastEnd), 2 << 32 | 9);
    }

    #[test]
    fn the_time_of_a_connection_that_waits_again_is_its_new_one_or_unknown_if_none_was_written() {
        let shared_memory = SharedMemory::new().unwrap();
        shared_memory.put(7, Place::Handed { listener: 1, run: 2, seq: 3 });
        let [state, ..] = shared_memory.entry(7).unwrap();
        state.store(WAITING, Ordering::Release);
        assert_eq!(shared_memory.place(7), Some(Place::Waiting { listener: 1, since: None }));
        shared_memory.put(7, Place::Waiting { listener: 1, since: Some(0) });
        assert_eq!(shared_memory.place(7), Some(Place::Waiting { listener: 1, since: Some(0) }));
    }

    #[test]
    fn descriptors_beyond_the_table_have_no_place() {
        let shared_memory = SharedMemory::new().unwrap();
        shared_memory.put(1 << 16, Place::Waiting { listener: 1, since: None });
        shared_memory.clear(-1);
        assert_eq!(shared_memory.place(1 << 16), None);
    }

    #[test]
    fn another_file_is_not_taken_for_the_shared_memory() {
        let other = Words::new("other", 64).unwrap();
        assert!(SharedMemory::open(other.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}
