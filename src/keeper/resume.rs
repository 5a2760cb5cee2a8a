//! How a keeper begins, with nothing or with what another program left, and how it executes the program that goes on
//! after it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::exits;
use super::inherited;
use super::shared_memory::{FdSlot, SharedMemory, Word};
use crate::os::fs::files;
use crate::os::process::{detach, identity, program};

/// First command-line argument of a program that is to be the keeper and start God.
pub const PERSONALITY: &str = "__daemon";
/// The argument before the number of the shared memory's file.
const RESUME: &str = "--resume";

/// What a keeper begins with.
#[derive(Debug)]
pub struct KeeperState {
    pub(super) shared_memory: Rc<SharedMemory>,
    /// Where the first God reports that it is ready. `None` after an upgrade or the death of a keeper.
    pub(super) readiness: Option<RawFd>,
}

impl KeeperState {
    /// The state of a daemon that starts from nothing. `lock` is the locked pid file; `readiness` is for the first God.
    ///
    /// # Errors
    /// Those of the system calls that make the shared memory and the socket pair of exits, and raise the limit of open
    /// files.
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

    /// The state that the program which executed this one left. `shared_memory` is the number from [`resumed`].
    ///
    /// # Errors
    /// `NotFound` if no file is open under the number; `InvalidData` if it has another layout.
    pub fn resume(shared_memory: RawFd) -> io::Result<KeeperState> {
        let file = files::take(shared_memory).ok_or(io::ErrorKind::NotFound)?;
        identity::raise_file_limit()?;
        Ok(KeeperState { shared_memory: Rc::new(SharedMemory::open(file)?), readiness: None })
    }
}

/// Executes a program, given as an open file, as the keeper that goes on with all open files. `home` is the daemon's
/// home folder, for the program's command line. Returns only if that fails, and then with the reason.
pub fn execute(shared_memory: &SharedMemory, binary: &impl AsFd, home: &OsStr) -> io::Error {
    let number = shared_memory.file().as_raw_fd().to_string();
    let args: [&OsStr; 6] =
        ["pmr".as_ref(), PERSONALITY.as_ref(), "--home".as_ref(), home, RESUME.as_ref(), number.as_ref()];
    let error = match inherited::make_inheritable(shared_memory) {
        Ok(()) => program::execute(binary, &args),
        Err(error) => error,
    };
    // The program did not start, so no other one may inherit the files.
    let _ = detach::seal_inherited();
    error
}

/// The number of the shared memory's file, if this program was executed to go on: the argument after `--resume`.
#[must_use]
pub fn resumed(args: &[OsString]) -> Option<RawFd> {
    let at = args.iter().position(|arg| arg == RESUME)?;
    args.get(at + 1)?.to_str()?.parse().ok()
}
