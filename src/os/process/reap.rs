//! Reaping children: taking their exit status, after which the kernel forgets them.

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

impl Ended {
    /// Decodes the status that `wait` returns.
    #[must_use]
    pub fn from_status(status: i32) -> Ended {
        if libc::WIFSIGNALED(status) {
            Ended::Signal(libc::WTERMSIG(status))
        } else {
            Ended::Code(libc::WEXITSTATUS(status))
        }
    }
}

/// Reaps one child of this thread that has ended, if there is one. Never blocks.
///
/// Orphans that a process adopts become children of its first thread. Children of other threads are not reaped.
#[must_use]
pub fn reap_one() -> Option<(i32, Ended)> {
    loop {
        return match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw(), Ended::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid.as_raw(), Ended::Signal(signal as i32))),
            Err(Errno::EINTR) => continue,
            // StillAlive, and ECHILD where there are no children at all.
            Ok(_) | Err(_) => None,
        };
    }
}

/// Reaps this child if it has ended. `None` if it lives, or is no child of this process. Never blocks.
#[must_use]
pub fn reap_if_ended(pid: i32) -> Option<Ended> {
    loop {
        return match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, code)) => Some(Ended::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Signal(signal as i32)),
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => None,
        };
    }
}

/// Waits for the end of this child and reaps it. Blocks, so the child must be about to end.
pub fn reap(pid: i32) {
    while waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_of_other_threads_are_left_to_them() {
        let theirs = std::thread::spawn(|| Command::new("true").spawn().unwrap());
        let mut child = theirs.join().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid.unwrap()), ended).unwrap();
        assert_eq!(reap_one(), None);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn exit_codes_and_signals_are_distinguished() {
        let reap = |line: &str| {
            #[allow(clippy::zombie_processes)] // Reaped by what is tested.
            let child = Command::new("sh").args(["-c", line]).spawn().unwrap();
            loop {
                match reap_one() {
                    Some((pid, ended)) if pid == i32::try_from(child.id()).unwrap() => return ended,
                    _ => std::thread::yield_now(),
                }
            }
        };
        assert_eq!(reap("exit 3"), Ended::Code(3));
        assert_eq!(reap("kill -9 $$"), Ended::Signal(9));
    }
}
