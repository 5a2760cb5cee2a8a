//! What this machine, and the container that the daemon may run in, allow. It is found out by trying it with a child.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::filter::install;
use crate::os::net::fdpass;
use crate::os::process::credentials::Credentials;
use crate::os::process::spawn;
use crate::os::process::{clone_files, reap};
use crate::os::tracer::{self, Tracer};

/// What the interception of binds needs, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ability {
    /// A process can be put under the filter, and the watch can be passed to the daemon.
    pub notify: Result<(), Obstacle>,
    /// Its sockets can be duplicated: `pidfd_getfd`.
    pub take: Result<(), Obstacle>,
    /// Its memory can be read: `process_vm_readv`.
    pub read: Result<(), Obstacle>,
    /// True if programs under the filter can still gain privileges, as `sudo` does. Only with `CAP_SYS_ADMIN`.
    pub keeps_privileges: bool,
}

/// Why a piece is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The system call that failed.
    pub call: String,
    /// Its error.
    pub errno: i32,
    /// Yama's setting (`kernel.yama.ptrace_scope`), if that is the reason.
    pub yama: Option<u8>,
}

impl Obstacle {
    fn new(call: &str, error: &io::Error) -> Obstacle {
        Obstacle { call: call.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO), yama: None }
    }

    /// The obstacle of a call that needs the right to trace.
    fn of_tracing(call: &str, error: &io::Error) -> Obstacle {
        let obstacle = Obstacle::new(call, error);
        // A setting of 1 allows tracing by ancestors. The call was made by an ancestor, so then Yama is not the reason.
        let yama = tracer::yama_limit().filter(|scope| obstacle.errno == libc::EPERM && *scope > 1);
        Obstacle { yama, ..obstacle }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.call == "seccomp" && self.errno == libc::EBUSY {
            return f.write_str("another supervisor above this one watches binds already, as pmr does beneath pmr");
        }
        write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(self.errno))?;
        match self.yama {
            Some(scope) => write!(f, ", as kernel.yama.ptrace_scope is {scope}"),
            None => Ok(()),
        }
    }
}

impl Ability {
    /// True if nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.obstacle().is_none()
    }

    /// The first missing piece.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Obstacle> {
        [&self.notify, &self.take, &self.read].into_iter().find_map(|found| found.as_ref().err())
    }
}

/// Finds out what is possible for programs that run as this user (or as this process's own), with this tracer. It
/// starts a child, which lives for less than a millisecond.
///
/// To be called on the thread that reaps children.
///
/// # Errors
/// If there is no process or descriptor to be had.
pub fn ability(user: Option<&Credentials>, tracer: &Tracer) -> io::Result<Ability> {
    let (ours, theirs) = fdpass::channel_pair()?;
    rustix::io::ioctl_fionbio(&ours, false)?;
    let pid = start(&theirs, user)?;
    // The child has it open under the same number.
    let number = theirs.as_raw_fd();
    drop(theirs);
    let found = examine(&tracer.as_at_siblings(), pid, &ours, number);
    // The child waits for a message. The send fails if it is gone already.
    let _ = fdpass::send(&ours, b"go", None);
    reap::reap(pid);
    found
}

/// Read from the child's memory, where it is at the same address: the child is a copy of this process.
static MARK: [u8; 16] = *b"is this readable";

fn start(channel: &OwnedFd, user: Option<&Credentials>) -> io::Result<i32> {
    // SAFETY: the child calls nothing that allocates or locks, and ends by `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            act_as_worker(channel, user);
            clone_files::leave(0)
        }
        pid => Ok(pid),
    }
}

/// What the child does: the same as a worker before its program starts, then it waits for a message. If the parent
/// dies, a signal ends the child. The end of the channel would not, since the child has a copy of the parent's end.
fn act_as_worker(channel: &OwnedFd, user: Option<&Credentials>) {
    let installed = install();
    let became = user.map_or(Ok(()), spawn::become_user);
    // The change of user clears that signal and makes this process untraceable, which executing a program would undo.
    // SAFETY: the calls take numbers only.
    let limited = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    };
    let errno = |result: &io::Result<()>| result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
    let (watch, installed) = match installed {
        // SAFETY: the kernel has just opened it, and it is not closed while this process lives.
        Ok(number) => (Some(unsafe { BorrowedFd::borrow_raw(number) }), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let report = Report { installed: errno(&installed), became: errno(&became), limited };
    if fdpass::send(channel, &report.bytes(), watch).is_ok() {
        let _ = fdpass::receive(channel, &mut [0; 1]);
    }
}

/// What the child reports: error numbers, 0 for success.
struct Report {
    installed: i32,
    became: i32,
    limited: i32,
}

impl Report {
    fn bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (chunk, number) in bytes.chunks_exact_mut(4).zip([self.installed, self.became, self.limited]) {
            chunk.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    fn read(bytes: [u8; 12]) -> Report {
        let number = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Report { installed: number(0), became: number(4), limited: number(8) }
    }
}

fn examine(tracer: &Tracer, pid: i32, channel: &OwnedFd, open_in_child: i32) -> io::Result<Ability> {
    let mut bytes = [0; 12];
    let (count, files) = fdpass::receive(channel, &mut bytes)?;
    if count != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let report = Report::read(bytes);
    if report.became != 0 {
        return Err(io::Error::from_raw_os_error(report.became));
    }
    let notify = match report.installed {
        0 if files.is_empty() => Err(Obstacle::new("SCM_RIGHTS", &io::Error::from_raw_os_error(libc::EPERM))),
        0 => Ok(()),
        errno => Err(Obstacle::new("seccomp", &io::Error::from_raw_os_error(errno))),
    };
    let take = tracer.take_fd(pid, open_in_child).map_err(|error| Obstacle::of_tracing("pidfd_getfd", &error));
    let length = u32::try_from(MARK.len()).unwrap_or_default();
    let read = tracer
        .read_memory(pid, MARK.as_ptr() as u64, length)
        .and_then(|bytes| if bytes == MARK { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) });
    Ok(Ability {
        notify,
        take: take.map(drop),
        read: read.map_err(|error| Obstacle::of_tracing("process_vm_readv", &error)),
        keeps_privileges: report.limited == 0,
    })
}
