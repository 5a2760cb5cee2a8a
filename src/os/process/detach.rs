//! Leaving the terminal: a daemon that a command line started gets a session of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd;

/// Starts `program args…` so that it can become a daemon with [`detach`]: in `/`, with a pipe as its standard output,
/// whose read end is `child.stdout`.
///
/// # Errors
/// Those of starting a process.
pub fn spawn(program: &Path, args: &[&std::ffi::OsStr]) -> io::Result<Child> {
    Command::new(program)
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Makes this process the leader of a session of its own, and returns the pipe that [`spawn`] gave it, on which its
/// caller waits for the result of the start. Afterwards standard output is `/dev/null`, and children do not inherit the
/// pipe.
///
/// A terminal's hang-up and Ctrl-C no longer reach the process, and files of its caller (locks, pipes) are closed. To
/// be called first in `main`, before any file is opened.
///
/// # Errors
/// Those of the system calls.
pub fn detach() -> io::Result<OwnedFd> {
    // SAFETY: no value in this process owns a descriptor beyond the standard three yet.
    unsafe { close_range(0) }?;
    unistd::setsid()?;
    let pipe = io::stdout().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdout(dev_null()?)?;
    Ok(pipe)
}

/// Marks all open files beyond the standard three as close-on-exec. Files that this process opened are already; files
/// that it inherited may not be.
///
/// # Errors
/// Those of `close_range(2)`.
pub fn seal_inherited() -> io::Result<()> {
    // SAFETY: no descriptor is closed, only marked.
    unsafe { close_range(libc::CLOSE_RANGE_CLOEXEC) }
}

/// # Safety
/// Without flags it closes descriptors, so none of them may have an owner.
unsafe fn close_range(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes numbers only; the caller promises that the closed descriptors have no owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn dev_null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}
