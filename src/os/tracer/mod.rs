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
//!  Tracer ── request: number, kind, thread, two arguments; each a u64 ──► TraceProxy, woken by the signal REQUESTED
//!    ▲                                                                      │
//!    └── response: number, error number or 0; bytes, a file ◄───────────────┘
//! ```
//!
//! - A request or response is one packet, in the machine's own byte order: both ends are the same program, which made
//!   the pair.
//! - A file is attached to the packet. So the kernel closes it with the packet if either side dies before it is
//!   received.
//! - The tracer waits for a second at most. A proxy that has not responded by then gets no more requests until that
//!   response arrives. The late response is recognised by its number and dropped.

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
use proxy::{LONGEST_RESPONSE, Request, Response};

use super::killpoint;
use super::net::packets;
use super::process::{identity, pidfd, proc};

/// Wakes the proxy's process, to which it must not be fatal.
pub const REQUESTED: Signal = Signal::SIGIO;
/// How long the tracer waits for a response. A proxy responds within microseconds, unless its process was stopped.
const RESPONSE_LIMIT: Duration = Duration::from_secs(1);
/// The `errno` if the proxy does not respond.
const SILENT: i32 = libc::ETIMEDOUT;
/// The `errno` if the proxy is dead.
const DEAD: i32 = libc::ECONNRESET;

/// Looks into other processes: by itself, and through a proxy, if it has one, where the kernel refuses it. Clones share
/// the proxy.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// Try without the proxy first.
    directly: bool,
    link: Option<Rc<Link>>,
}

/// The connection to a proxy.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    /// Pidfd of the proxy's process.
    process: OwnedFd,
    /// How long to wait for a response.
    limit: Duration,
    /// Number of the last request.
    last: Cell<u64>,
    /// The response to the last request has not arrived in time.
    silent: Cell<bool>,
}

/// Makes a link: the tracer's end, and the proxy.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, TraceProxy)> {
    let (ours, theirs) = packets::pair()?;
    rustix::io::ioctl_fionbio(&theirs, true)?;
    Ok((ours, TraceProxy::from(theirs)))
}

/// True for errors that say nothing about the traced process: the proxy did not respond.
#[must_use]
pub fn is_unanswered(errno: i32) -> bool {
    [SILENT, DEAD].contains(&errno)
}

/// Yama's setting (`kernel.yama.ptrace_scope`), if it restricts this process: with 1 only ancestors may trace a
/// process, with 2 only processes that have `CAP_SYS_PTRACE`, with 3 none.
#[must_use]
pub fn yama_limit() -> Option<u8> {
    const SYS_PTRACE: u32 = 19;
    let scope: u8 = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()?;
    let limited = scope > 2 || scope > 0 && !proc::has_capability(identity::pid(), SYS_PTRACE);
    limited.then_some(scope)
}

impl Tracer {
    /// A tracer without a proxy.
    #[must_use]
    pub fn direct() -> Tracer {
        Tracer { directly: true, link: None }
    }

    /// A tracer with the proxy at the other end of this socket. The process behind the pidfd must call
    /// [`TraceProxy::answer`] when it gets the signal [`REQUESTED`].
    #[must_use]
    pub fn with_proxy(socket: OwnedFd, process: OwnedFd) -> Tracer {
        Tracer::with_limit(RESPONSE_LIMIT, socket, process)
    }

    fn with_limit(limit: Duration, socket: OwnedFd, process: OwnedFd) -> Tracer {
        let link = Link { socket, process, limit, last: Cell::new(0), silent: Cell::new(false) };
        Tracer { directly: true, link: Some(Rc::new(link)) }
    }

    /// A tracer for a test with a child, which is to find out whether processes that are no children can be traced.
    /// Where Yama makes that difference, this tracer uses only the proxy, which is an ancestor of both.
    pub(super) fn as_at_siblings(&self) -> Tracer {
        let link = self.link.clone();
        Tracer { directly: link.is_none() || yama_limit().is_none(), link }
    }

    /// Duplicates a file that another process has open under this number, close-on-exec. `thread` is any of its
    /// threads; the files of that thread are meant.
    ///
    /// # Errors
    /// `EBADF` if no file is open under the number, `ESRCH` if the thread is gone, `EPERM` if the kernel does not allow
    /// it, `ENOSYS` before Linux 5.6; see also [`is_unanswered`].
    pub fn take_fd(&self, thread: i32, number: RawFd) -> io::Result<OwnedFd> {
        let response = self.request(&Request::File { thread, number })?;
        // Without room for one more open file the kernel delivers the packet without the file.
        response.file.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
    }

    /// Copies bytes from another process's memory, at most as many as the longest socket address has.
    ///
    /// # Errors
    /// `EFAULT` if not all of the range is mapped; else those of [`Tracer::take_fd`].
    pub fn read_memory(&self, thread: i32, from: u64, length: u32) -> io::Result<Vec<u8>> {
        self.request(&Request::Memory { thread, from, length }).map(|response| response.bytes)
    }

    /// Number and arguments of the system call in which this thread sleeps. `None` if it runs, or the kernel does not
    /// tell.
    #[must_use]
    pub fn system_call(&self, thread: i32) -> Option<(i64, [u64; 6])> {
        let line = self.request(&Request::Call { thread }).ok()?.bytes;
        parse_call(std::str::from_utf8(&line).ok()?)
    }

    fn request(&self, request: &Request) -> io::Result<Response> {
        let directly = self.directly && !killpoint::is_armed("descendants-only");
        let response = if directly { request.fulfil() } else { Err(io::Error::from_raw_os_error(libc::EPERM)) };
        match (response, &self.link) {
            (Err(error), Some(link)) if error.raw_os_error() == Some(libc::EPERM) => link.request(request),
            (response, _) => response,
        }
    }
}

impl Link {
    fn request(&self, request: &Request) -> io::Result<Response> {
        if self.silent.get() {
            // A proxy that owes a response gets no more requests: otherwise each would wait for the limit.
            let _late = self.receive().map_err(|_| io::Error::from_raw_os_error(SILENT))?;
            self.silent.set(false);
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        packets::send(&self.socket, &request.to_bytes(number), &[])?;
        pidfd::signal(&self.process, REQUESTED as i32)?;
        let until = Instant::now() + self.limit;
        loop {
            self.wait(until)?;
            let (responded, response) = self.receive()?;
            if responded == number {
                return response;
            }
        }
    }

    fn receive(&self) -> io::Result<(u64, io::Result<Response>)> {
        let mut buffer = [0; LONGEST_RESPONSE];
        let (count, files) = packets::receive(&self.socket, &mut buffer)?;
        Response::from_packet(&buffer[..count], files).ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
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
                // A response that the proxy sent before it died is valid.
                Ok(_) if !polled[0].revents().is_empty() => return Ok(()),
                Ok(_) => return Err(io::Error::from_raw_os_error(DEAD)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads `/proc/TID/syscall`: the number of the call, then its arguments in hexadecimal. `None` for a thread that runs.
fn parse_call(line: &str) -> Option<(i64, [u64; 6])> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((number, arguments))
}
