//! Looking into other processes: taking one of their files, reading their memory, finding the system call they wait in.
//!
//! The kernel grants that to a process that may trace them (`PTRACE_MODE_ATTACH`): to processes of the same user, but
//! where Yama is configured so (`kernel.yama.ptrace_scope` 1, as on Ubuntu) only to their ancestors. What else is read
//! of processes, above all their lists of open files and of sockets, takes `PTRACE_MODE_READ`, which Yama does not
//! restrict.
//!
//! A process without descendants, because what it starts is to outlive it, therefore has a *proxy*: an ancestor of
//! those processes that looks into them at its request. The proxy gets a request only if the kernel has refused the
//! process itself. So it costs nothing where there is no Yama, and the permissions may change at any time.
//!
//! ```text
//!  Tracer ─── asks: number, what, thread, two arguments; each a u64 ──► TraceProxy, woken by the signal REQUESTED
//!    ▲                                                                    │
//!    └─── answers: number, error number or 0; bytes, a file ◄─────────────┘
//! ```
//!
//! - Each is one packet, in the machine's own byte order: both ends are of one program, which made the pair.
//! - A file goes inside the packet. So it is closed with it if nobody is there to take it, whoever of the two dies.
//! - Nothing waits for longer than a second. One that has not answered by then is asked nothing more until that
//!   answer comes; it is late, as its number tells, and is thrown away.

mod proxy;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use proxy::TraceProxy;
use proxy::{LONGEST_ANSWER, Seen, Wish};

use super::killpoint;
use super::net::packets;
use super::process::{identity, pidfd, proc};

/// Wakes the proxy's process, to which it must not be fatal.
pub const REQUESTED: Signal = Signal::SIGIO;
/// How long a proxy has to answer. It takes microseconds, unless it was stopped.
const PATIENCE: Duration = Duration::from_secs(1);
/// The proxy does not answer.
const SILENT: i32 = libc::ETIMEDOUT;
/// The proxy is dead.
const DEAD: i32 = libc::ECONNRESET;

/// Who looks: we, and in our place our proxy, if we have one. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// We try it ourselves first.
    ourselves: bool,
    line: Option<Rc<Line>>,
}

/// To a proxy.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    process: OwnedFd,
    /// How long it has to answer.
    patience: Duration,
    /// Number of the last question.
    last: Cell<u64>,
    /// It was not answered in time.
    silent: Cell<bool>,
}

/// A line to a proxy: the end of whoever asks, and the proxy.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, TraceProxy)> {
    let (ours, theirs) = packets::pair()?;
    rustix::io::ioctl_fionbio(&theirs, true)?;
    Ok((ours, TraceProxy::from(theirs)))
}

/// True for the errors that tell nothing of the program: our proxy did not answer.
#[must_use]
pub fn is_unanswered(errno: i32) -> bool {
    [SILENT, DEAD].contains(&errno)
}

/// What Yama is set to (`kernel.yama.ptrace_scope`), if that limits us: 1 lets only ancestors look into a program, 2
/// only who has `CAP_SYS_PTRACE`, 3 nobody.
#[must_use]
pub fn yama_limit() -> Option<u8> {
    const SYS_PTRACE: u32 = 19;
    let scope: u8 = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()?;
    let limited = scope > 2 || scope > 0 && !proc::has_capability(identity::pid(), SYS_PTRACE);
    limited.then_some(scope)
}

impl Tracer {
    /// Without a proxy.
    #[must_use]
    pub fn direct() -> Tracer {
        Tracer { ourselves: true, line: None }
    }

    /// With the proxy at the other end of this socket, which the process of this pidfd serves when it is woken.
    #[must_use]
    pub fn with_proxy(socket: OwnedFd, process: OwnedFd) -> Tracer {
        Tracer::with_patience(PATIENCE, socket, process)
    }

    fn with_patience(patience: Duration, socket: OwnedFd, process: OwnedFd) -> Tracer {
        let line = Line { socket, process, patience, last: Cell::new(0), silent: Cell::new(false) };
        Tracer { ourselves: true, line: Some(Rc::new(line)) }
    }

    /// For finding out, by looking into a child, whether one could look into a process that is none: where Yama makes
    /// that difference only the proxy looks, who is above both.
    pub(super) fn as_at_siblings(&self) -> Tracer {
        let line = self.line.clone();
        Tracer { ourselves: line.is_none() || yama_limit().is_none(), line }
    }

    /// Our own descriptor of a file that another process has open under this number, close-on-exec. `thread` is any of
    /// its threads, whose files are meant.
    ///
    /// # Errors
    /// `EBADF` if it has none of this number, `ESRCH` if it is gone, `EPERM` if that is not allowed, `ENOSYS` before
    /// Linux 5.6; see [`is_unanswered`].
    pub fn take_fd(&self, thread: i32, number: RawFd) -> io::Result<OwnedFd> {
        let seen = self.look(&Wish::File { thread, number })?;
        // The kernel leaves out what there is no room for.
        seen.file.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
    }

    /// Copies from another process's memory, at most as much as an address is long.
    ///
    /// # Errors
    /// `EFAULT` if not all of it is there; else as [`Tracer::take_fd`].
    pub fn read_memory(&self, thread: i32, from: u64, length: u32) -> io::Result<Vec<u8>> {
        self.look(&Wish::Memory { thread, from, length }).map(|seen| seen.bytes)
    }

    /// The number and the six arguments of the system call in which this thread sleeps, as far as that is told.
    #[must_use]
    pub fn system_call(&self, thread: i32) -> Option<(i64, [u64; 6])> {
        let line = self.look(&Wish::Call { thread }).ok()?.bytes;
        parse_call(std::str::from_utf8(&line).ok()?)
    }

    fn look(&self, wish: &Wish) -> io::Result<Seen> {
        let ourselves = self.ourselves && !killpoint::is_armed("descendants-only");
        let seen = if ourselves { wish.fulfil() } else { Err(io::Error::from_raw_os_error(libc::EPERM)) };
        match (seen, &self.line) {
            (Err(error), Some(line)) if error.raw_os_error() == Some(libc::EPERM) => line.ask(wish),
            (seen, _) => seen,
        }
    }
}

impl Line {
    fn ask(&self, wish: &Wish) -> io::Result<Seen> {
        if self.silent.get() {
            // While it owes us an answer it gets no more questions, so that those who wait for us do not wait long.
            let _late = self.receive().map_err(|_| io::Error::from_raw_os_error(SILENT))?;
            self.silent.set(false);
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        packets::send(&self.socket, &wish.to_bytes(number), &[])?;
        pidfd::signal(&self.process, REQUESTED as i32)?;
        let until = Instant::now() + self.patience;
        loop {
            self.wait(until)?;
            let (answered, seen) = self.receive()?;
            if answered == number {
                return seen;
            }
        }
    }

    fn receive(&self) -> io::Result<(u64, io::Result<Seen>)> {
        let mut buffer = [0; LONGEST_ANSWER];
        let (count, files) = packets::receive(&self.socket, &mut buffer)?;
        Seen::from_packet(&buffer[..count], files).ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let limit = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut polled = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(self.process.as_fd(), PollFlags::IN),
            ];
            match poll(&mut polled, Some(&limit)) {
                Ok(0) => {
                    self.silent.set(true);
                    return Err(io::Error::from_raw_os_error(SILENT));
                }
                // What it has answered before it died counts.
                Ok(_) if !polled[0].revents().is_empty() => return Ok(()),
                Ok(_) => return Err(io::Error::from_raw_os_error(DEAD)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The first words of `/proc/TID/syscall`, all but the first in hexadecimal. `None` of a thread that runs.
fn parse_call(line: &str) -> Option<(i64, [u64; 6])> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((number, arguments))
}
