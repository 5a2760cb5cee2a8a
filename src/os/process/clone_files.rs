//! A second process of this program that shares this one's table of open files.
//!
//! A file that one of the two opens is open in the other, at once and under the same number. So no file has to be
//! passed on, and a process that is killed at any instruction leaves behind every file that it had open.

use std::io::{self, Write};

/// Starts the process, in which `body` runs, and returns its pid. It ends with the exit code that `body` returns. Its
/// memory is a copy of this process's; its open files are the same.
///
/// # Errors
/// Those of `clone(2)`.
///
/// # Panics
/// If this process has several threads: locks that the others hold would never be released in the copy.
pub fn start(body: impl FnOnce() -> i32) -> io::Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "clone_files::start in a process with several threads");
    let flags = libc::CLONE_FILES | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // The C library keeps the number of a thread where the kernel clears it at the thread's end. The number of the new
    // process's thread is written there.
    let mut thread_number: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: the call writes one pointer to the given place.
    let known = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut thread_number) } == 0;
    let flags = if known { flags } else { libc::CLONE_FILES | libc::SIGCHLD };
    // SAFETY: like fork: the child has a copy of this memory, and this was the only thread, so nothing in the copy is
    // locked or half done. The address, if given, is the C library's own for this purpose.
    let pid = unsafe { clone(libc::c_ulong::from(flags.unsigned_abs()), thread_number) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            let _ = io::stdout().flush();
            // No destructors and exit handlers: what they would clean up belongs to the original.
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
    // SAFETY: without a stack argument the child continues on its copy of this stack; see above for the rest.
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

/// Gives this thread a copy of the shared table, so that closing a file affects no other process.
pub fn unshare() {
    // SAFETY: changes no memory; every open file keeps its number and its owner. It fails only if memory is short, and
    // then nothing has changed.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        leave(STILL_SHARED);
    }
}

/// Exit code of a process that could not get a table of its own. It must end, since it would close files of the other
/// process.
const STILL_SHARED: i32 = 102;

/// Ends this process at once, without destructors and exit handlers: nothing that it shares with another process
/// changes.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}
