//! The memory that the keeper shares with each God: which open files are the slots of the house, what the last God's
//! end was, and where each accepted connection is on its way to a worker.
//!
//! It is read after a God was killed at any instruction, so each word is right by itself, and where two depend on each
//! other the one that gives them meaning is written last.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::shared_memory::Words;

const MAGIC: u64 = 0x706d_725f_6b65_6570;
/// Of the layout. A keeper of another version that finds another number starts from the disk.
pub const LAYOUT: u64 = 1;
/// Words before the table of connections.
const HEADER: usize = 64;
const SLOT: usize = 4;
/// Connections with a higher descriptor than this are lost with the God that accepted them.
const SLOTS: usize = 1 << 16;

/// Words with one meaning each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// How many Gods there were.
    Generation = 2,
    /// Not 0 once a God of this keeper, or of one before it, was ready.
    Ready = 3,
    /// Pid of the present God.
    God = 4,
    /// Wait status of the last God.
    LastEnd = 5,
    /// When it ended, in ms of the monotonic clock.
    EndedAt = 6,
    /// What happened with the last upgrade: see [`super::UpgradeProbation`].
    Upgrade = 7,
    /// Exits the keeper had to forget because no God came to hear of them.
    ForgottenExits = 8,
    /// The soft limit of open files that the first keeper was started with, which is the apps'.
    FileLimitSoft = 9,
    /// The hard one.
    FileLimitHard = 10,
    /// Pid of the guard of an upgrade.
    Guard = 11,
}

/// Open files with one meaning each; they are in the table under these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum FdSlot {
    /// The records of the present God.
    Ledger = 16,
    /// Those of the God before an upgrade, until the new one has stood its test.
    LedgerBefore = 17,
    /// Where exits are read from.
    ExitsOut = 18,
    /// Where the keeper writes them to.
    ExitsIn = 19,
    /// The locked pid file.
    Lock = 20,
    /// The program to go on with.
    Program = 21,
    /// The program before an upgrade, until the new one has stood its test.
    ProgramBefore = 22,
}

impl FdSlot {
    /// All of them.
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

/// Where an accepted connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With us.
    Waiting {
        /// Of which listener; numbers are the cluster's affair.
        listener: u64,
        /// Since when, in ms of the monotonic clock; `None` if a God wrote it down who told no time.
        since: Option<u64>,
    },
    /// Written to a worker's channel, or just about to be.
    Handed {
        /// Of which listener.
        listener: u64,
        /// The worker's run.
        run: u64,
        /// Number of the hand-over; they grow.
        seq: u64,
    },
}

const NOWHERE: u64 = 0;
const WAITING: u64 = 1;
const HANDED: u64 = 2;
/// Told with the time that a connection waits since, where there may be the run it was last handed to.
const SINCE: u64 = 1 << 63;

/// See the module.
#[derive(Debug)]
pub struct SharedMemory {
    words: Words,
}

impl SharedMemory {
    /// A new one.
    pub fn new() -> io::Result<SharedMemory> {
        let words = Words::new("pmr", HEADER + SLOTS * SLOT)?;
        words.at(1).store(LAYOUT, Ordering::Release);
        words.at(0).store(MAGIC, Ordering::Release);
        Ok(SharedMemory { words })
    }

    /// The one another keeper left.
    pub fn open(file: OwnedFd) -> io::Result<SharedMemory> {
        let words = Words::open(file)?;
        let sound = words.count() == HEADER + SLOTS * SLOT && words.at(0).load(Ordering::Acquire) == MAGIC;
        if !sound || words.at(1).load(Ordering::Acquire) != LAYOUT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the shared memory has another layout"));
        }
        Ok(SharedMemory { words })
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// One of the words.
    #[must_use]
    pub fn get(&self, word: Word) -> u64 {
        self.words.at(word as usize).load(Ordering::Acquire)
    }

    /// Sets one of the words.
    pub fn set(&self, word: Word, value: u64) {
        self.words.at(word as usize).store(value, Ordering::Release);
    }

    /// The descriptor of a slot, if it stands.
    #[must_use]
    pub fn fd_slot(&self, slot: FdSlot) -> Option<RawFd> {
        let number = self.words.at(slot as usize).load(Ordering::Acquire).checked_sub(1)?;
        RawFd::try_from(number).ok()
    }

    /// Puts a slot up, or takes it away. The file itself is the caller's affair.
    pub fn set_fd_slot(&self, slot: FdSlot, number: Option<RawFd>) {
        let word = number.and_then(|number| u64::try_from(number).ok()).map_or(0, |number| number + 1);
        self.words.at(slot as usize).store(word, Ordering::Release);
    }

    fn slot(&self, number: RawFd) -> Option<[&AtomicU64; SLOT]> {
        let slot = usize::try_from(number).ok().filter(|number| *number < SLOTS)?;
        let first = HEADER + slot * SLOT;
        Some([0, 1, 2, 3].map(|word| self.words.at(first + word)))
    }

    /// Writes down where the connection with this descriptor is.
    pub fn put(&self, number: RawFd, place: Place) {
        let Some([state, its_listener, its_run, its_seq]) = self.slot(number) else { return };
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

    /// Forgets a connection. To be called after the descriptor was closed: one that is open and has no place is taken
    /// for a connection that was accepted just now.
    pub fn clear(&self, number: RawFd) {
        if let Some([state, ..]) = self.slot(number) {
            state.store(NOWHERE, Ordering::Release);
        }
    }

    /// Where the connection with this descriptor is, if that was written down.
    #[must_use]
    pub fn place(&self, number: RawFd) -> Option<Place> {
        let [state, listener, run, seq] = self.slot(number)?.map(|word| word.load(Ordering::Acquire));
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
        let heir = SharedMemory::open(shared_memory.file().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((heir.get(Word::Generation), heir.fd_slot(FdSlot::Lock)), (3, Some(0)));
        assert_eq!(heir.fd_slot(FdSlot::Ledger), None);
        assert_eq!(heir.place(7), Some(Place::Handed { listener: 1, run: 2, seq: 3 }));
        assert_eq!(heir.place(8), Some(Place::Waiting { listener: 9, since: Some(10) }));
        heir.clear(8);
        assert_eq!((shared_memory.place(8), shared_memory.place(6)), (None, None));
    }

    #[test]
    fn one_that_waits_again_waits_since_then_and_of_a_god_who_told_no_time_that_is_known() {
        let shared_memory = SharedMemory::new().unwrap();
        shared_memory.put(7, Place::Handed { listener: 1, run: 2, seq: 3 });
        let [state, ..] = shared_memory.slot(7).unwrap();
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
    fn something_else_is_not_taken_for_it() {
        let other = Words::new("other", 64).unwrap();
        assert!(SharedMemory::open(other.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}
