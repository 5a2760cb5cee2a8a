//! The keeper: the small parent of God and of every process he starts.
//!
//! ```text
//!  keeper ──starts again──► God ──starts──► workers
//!    │  ▲                    │                 │
//!    │  └──── their parent, whoever started them and whatever becomes of God
//!    └── one table of open files, shared with God
//! ```
//!
//! God is a twin of the keeper's ([`crate::os::process::clone_files`]): both see one table of open files. So God's death, at whatever
//! instruction, closes nothing: listeners, workers' channels, log pipes and connections just accepted stay open under
//! the numbers they had. What each number is stands in the [`ledger`], a file in memory that God appends his state to;
//! where each connection is on its way stands in the [`shared_memory`], memory that both have mapped. The next God takes all
//! of it over ([`inherited`]) and goes on. While there is none, connections wait in the kernel's queues, output in the
//! pipes, and exits ([`exits`]) in a socket.
//!
//! Why no messages to store and fetch files, as with systemd's `FDSTORE`: a file would be lost between the call that
//! made it and the one that stored it, and each connection would cost two more system calls. Here there is no such gap.
//!
//! One road leads out of every accident: the keeper executes a program, which finds the open files and the shared_memory's
//! number, and starts a God.
//! - God died: the keeper starts the next.
//! - An upgrade: God ends with [`UPGRADE`], the keeper executes the new program; should its God die before he has stood
//!   his [`UpgradeProbation`], or the new keeper before it has a God (`guard`), the old program is executed again.
//! - The keeper died: God notices, and executes himself as the keeper.
//!
//! The keeper decides nothing about apps: also what programs ask of the kernel through us is God's to answer, since what
//! they wait for lies in the shared table and is answered by the next God. He does one thing on God's word: he looks into
//! a program ([`crate::os::tracer`]) where the kernel refuses that to God, because he is its ancestor and God is not. The
//! line between the two is a socket pair that each God gets anew when he is started, so nothing that one God asked is left
//! for the next, and no other version of the program is ever at the other end. A keeper who took the place of one that
//! died is no ancestor of what ran before: where that matters, those programs serve on, and what they bind from then on is
//! theirs alone.

pub mod exits;
pub mod frames;
mod guard;
pub mod inherited;
pub mod ledger;
pub mod shared_memory;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

pub use frames::Records;
pub use inherited::{Inherited, Previous};
pub use ledger::Ledger;
pub use shared_memory::{FdSlot, LAYOUT, Place, SharedMemory, Word};
pub use watch::run;

use crate::os::fs::files;
use crate::os::process::reap::Ended;
use crate::os::process::{detach, identity, program, tree};

/// Exit code of a God who wants the program behind [`FdSlot::Program`] to go on.
pub const UPGRADE: i32 = 75;
/// The first generation.
const FIRST: u64 = 1;

/// Where an upgrade stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpgradeProbation {
    /// None was asked for, or the last one is over and done.
    #[default]
    None,
    /// The new program runs; the old one takes over again should God die.
    Running,
    /// The new program could not be executed.
    NotExecuted,
    /// The new program's God died, and the old one is back.
    Failed,
}

impl UpgradeProbation {
    /// As written down.
    #[must_use]
    pub fn of(shared_memory: &SharedMemory) -> UpgradeProbation {
        match shared_memory.get(Word::Upgrade) {
            1 => UpgradeProbation::Running,
            2 => UpgradeProbation::NotExecuted,
            3 => UpgradeProbation::Failed,
            _ => UpgradeProbation::None,
        }
    }

    /// Writes it down.
    pub fn note(self, shared_memory: &SharedMemory) {
        let word = match self {
            UpgradeProbation::None => 0,
            UpgradeProbation::Running => 1,
            UpgradeProbation::NotExecuted => 2,
            UpgradeProbation::Failed => 3,
        };
        shared_memory.set(Word::Upgrade, word);
    }
}

/// What the keeper's life begins with: nothing, or what another program left.
#[derive(Debug)]
pub struct KeeperState {
    shared_memory: Rc<SharedMemory>,
    readiness: Option<RawFd>,
}

impl KeeperState {
    /// A new house. The lock is the locked pid file; `readiness` is for the first God.
    pub fn create(lock: File, readiness: Option<OwnedFd>) -> io::Result<KeeperState> {
        let shared_memory = SharedMemory::new()?;
        let (soft, hard) = identity::raise_file_limit()?;
        shared_memory.set(Word::FileLimitSoft, soft);
        shared_memory.set(Word::FileLimitHard, hard);
        let (out, into) = exits::pair()?;
        let slots = [(FdSlot::Lock, lock.into()), (FdSlot::ExitsOut, out), (FdSlot::ExitsIn, into)];
        for (slot, file) in slots {
            let file: OwnedFd = file;
            shared_memory.set_fd_slot(slot, Some(file.into_raw_fd()));
        }
        Ok(KeeperState { shared_memory: Rc::new(shared_memory), readiness: readiness.map(IntoRawFd::into_raw_fd) })
    }

    /// The house of the program that executed us.
    pub fn resume(shared_memory: RawFd) -> io::Result<KeeperState> {
        let file = files::take(shared_memory).ok_or(io::ErrorKind::NotFound)?;
        identity::raise_file_limit()?;
        Ok(KeeperState { shared_memory: Rc::new(SharedMemory::open(file)?), readiness: None })
    }
}

/// Executes a program, given as an open file, as the keeper that goes on with all of this; `home` is for its command
/// line. Returns only if that fails.
pub fn execute(shared_memory: &SharedMemory, binary: &impl AsFd, home: &OsStr) -> io::Error {
    let number = shared_memory.file().as_raw_fd().to_string();
    let args: [&OsStr; 6] =
        ["pmr".as_ref(), PERSONALITY.as_ref(), "--home".as_ref(), home, RESUME.as_ref(), number.as_ref()];
    let error = match inherited::bequeath(shared_memory) {
        Ok(()) => program::execute(binary, &args),
        Err(error) => error,
    };
    // Nobody but us has the files now.
    let _ = detach::seal_inherited();
    error
}

/// First argument of a program that is to be keeper and God.
pub const PERSONALITY: &str = "__daemon";
/// The argument before the number of the shared_memory's file.
const RESUME: &str = "--resume";

/// The number after `--resume`, if the program was executed to go on.
#[must_use]
pub fn resumed(args: &[OsString]) -> Option<RawFd> {
    let at = args.iter().position(|arg| arg == RESUME)?;
    args.get(at + 1)?.to_str()?.parse().ok()
}

/// Has the keeper tell an init system that waits for it that a God is ready. Only he may: he is the process it started.
pub fn tell_ready(keeper: i32) {
    // Fails only if he is dead, and then a God follows who tells his own.
    let _ = tree::signal(keeper, watch::READY as i32);
}

/// The new program stays, or the old one is back: what was kept for the way back is let go.
pub fn end_probation(shared_memory: &SharedMemory, keeper: i32) {
    UpgradeProbation::None.note(shared_memory);
    guard::tell(shared_memory, keeper, false);
    for slot in [FdSlot::ProgramBefore, FdSlot::LedgerBefore] {
        let file = shared_memory.fd_slot(slot).and_then(files::take);
        shared_memory.set_fd_slot(slot, None);
        drop(file);
    }
}

fn encode_end(ended: Option<Ended>) -> u64 {
    let part = |number: i32| u64::from(number.unsigned_abs());
    match ended {
        None => 0,
        Some(Ended::Code(code)) => 1 << 32 | part(code),
        Some(Ended::Signal(number)) => 2 << 32 | part(number),
    }
}

fn decode_end(word: u64) -> Option<Ended> {
    let number = i32::try_from(word & 0xffff_ffff).ok()?;
    match word >> 32 {
        1 => Some(Ended::Code(number)),
        2 => Some(Ended::Signal(number)),
        _ => None,
    }
}
