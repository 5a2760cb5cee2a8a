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
/// A terminal's hang-up and Ctrl-C no longer reach the process.
pub fn detach() -> io::Result<OwnedFd> {
    unistd::setsid()?;
    let pipe = io::stdout().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdout(nowhere()?)?;
    Ok(pipe)
}

fn nowhere() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}
