//! Leaving the terminal: a daemon started by a command line becomes a session of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd;

/// Starts `program args…` so that it can become a daemon with [`detach`]: in `/`, with nothing open but a pipe as its
/// standard output, whose read end is `child.stdout`.
pub fn spawn(program: &Path, args: &[&std::ffi::OsStr]) -> io::Result<Child> {
    Command::new(program)
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Makes this process the leader of a session of its own and gives back the pipe it was started with, on which whoever
/// started it waits for news. Afterwards standard output is `/dev/null` and the pipe is not inherited by children.
///
/// A terminal's hang-up and Ctrl-C no longer reach the process, and what its caller had open (locks, pipes) is closed.
/// To be called first thing in `main`, before anything else is opened.
pub fn detach() -> io::Result<OwnedFd> {
    // SAFETY: nothing in this process owns a descriptor beyond the standard three yet.
    unsafe { close_range(0) }?;
    unistd::setsid()?;
    let pipe = io::stdout().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdout(nowhere()?)?;
    Ok(pipe)
}

/// Keeps whatever is open beyond the standard three from the programs we start. Ours is close-on-exec anyway; what we
/// inherited may not be.
pub fn seal_inherited() -> io::Result<()> {
    // SAFETY: no descriptor is closed, only marked.
    unsafe { close_range(libc::CLOSE_RANGE_CLOEXEC) }
}

/// # Safety
/// Without flags it closes descriptors, so none of them may have an owner.
unsafe fn close_range(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes numbers only; what it closes is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn nowhere() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}
