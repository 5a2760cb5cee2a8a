//! Taking the exit status of children, which lets the kernel forget them.

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Reaps one child that has ended, if there is one. Never blocks.
///
/// Takes any child: nothing else in the process may wait for children.
#[must_use]
pub fn reap_one() -> Option<(i32, Ended)> {
    loop {
        return match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw(), Ended::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid.as_raw(), Ended::Signal(signal as i32))),
            Err(Errno::EINTR) => continue,
            // StillAlive, and ECHILD where there are no children at all.
            Ok(_) | Err(_) => None,
        };
    }
}
