//! A second process of this program that shares this one's table of open files.
//!
//! What one of the two opens, the other has open, at once and under the same number, whatever becomes of the first:
//! nothing has to be handed over, and a process killed at any instruction leaves behind every file it had.

use std::io::{self, Write};

/// Starts it: `life` runs in the twin, which ends with the exit code it returns. The twin's memory is a copy of ours;
/// its open files are ours. Returns its pid.
///
/// Only in a process with one thread: in the copy no other would be there to let go of its locks.
pub fn start(life: impl FnOnce() -> i32) -> io::Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "a twin of a process with several threads");
    let flags = libc::CLONE_FILES | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // The C library keeps a thread's number where the kernel clears it at the end: the twin's is written there.
    let mut thread_number: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: the call writes one pointer to where it is told.
    let known = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut thread_number) } == 0;
    let flags = if known { flags } else { libc::CLONE_FILES | libc::SIGCHLD };
    // SAFETY: like fork: the child has a copy of our memory, and this was the only thread, so nothing in the copy is
    // locked or half done. The address, if given, is the C library's own for this very purpose.
    let pid = unsafe { clone(libc::c_ulong::from(flags.unsigned_abs()), thread_number) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life)).unwrap_or(101);
            let _ = io::stdout().flush();
            // What its copy of the memory has to clean up is the original's.
            leave(code)
        }
        pid => i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// # Safety
/// As `fork`; `thread_number` is null or where the C library keeps this thread's number.
#[cfg(not(target_arch = "s390x"))]
unsafe fn clone(flags: libc::c_ulong, thread_number: *mut libc::c_int) -> libc::c_long {
    let none: *mut libc::c_void = std::ptr::null_mut();
    // The order of the last two arguments differs between architectures.
    // SAFETY: without a stack of its own the child goes on with a copy of ours; see above for the rest.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        libc::syscall(libc::SYS_clone, flags, none, none, thread_number, none)
    }
    // SAFETY: as above.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        libc::syscall(libc::SYS_clone, flags, none, none, none, thread_number)
    }
}

/// Parts this thread from the shared table: it goes on with a copy, so that what it closes is closed for nobody else.
pub fn unshare() {
    // SAFETY: changes no memory; every open file keeps its number and its owner. It fails only for want of memory, and
    // then nothing has changed.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        leave(PARTLESS);
    }
}

/// Exit code of a process that had to end at once, since whatever it did would have closed files of its twin.
const PARTLESS: i32 = 102;

/// Ends this process at once, running nothing and closing nothing: what it shares with its twin stays as it is.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}
