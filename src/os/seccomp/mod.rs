//! Being told of every `bind` and `listen` of a program and its descendants, and answering in the kernel's place.
//!
//! Seccomp's user notification: the program is put under a filter before it starts (see [`crate::os::process::spawn`]); from
//! then on its thread sleeps in such a call until the [`BindWatch`] has answered. No other call is touched, so neither
//! is a connection's data. Sources: `seccomp_unotify(2)`, the kernel's `Documentation/userspace-api/seccomp_filter.rst`.
//!
//! ## What one has to know
//!
//! - A program cannot leave its filter. This is no wall against a hostile one: it can get around by `io_uring`, or by
//!   calls of an instruction set that the filter does not know.
//! - While nobody has a copy of the watch open, such a call fails with `ENOSYS`. While somebody has, but does not
//!   answer, it waits: the watch is to be kept where it outlives us.
//! - A notification that was received and not answered by one who died is not delivered again. Whoever comes next
//!   answers it by its [`RequestId`], which therefore is to be written down before anything else; see [`recovery`].
//! - What is answered with [`Answer::Continue`] the kernel does itself with what the arguments are by then, which
//!   another thread may have changed: nothing may be concluded from what we read.
//! - One watch at most is above a process: under ours, other supervisors that use this (container runtimes without
//!   root, ourselves) cannot.

pub mod ability;
mod filter;
mod handover;
mod i386;
pub mod recovery;
#[cfg(test)]
mod tests;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use handover::{Pending, handover};
pub(crate) use {filter::install, handover::install_and_leave};

use super::net::address::Address;
use super::tracer::Tracer;

/// Where the calls of one program and its descendants are told.
#[derive(Debug)]
pub struct BindWatch {
    file: OwnedFd,
    tracer: Tracer,
}

/// Which call it is, among those of one watch. They are numbered in the order they were made, from a random start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(u64);

/// A call that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// For the answer.
    pub id: RequestId,
    /// The thread that made it. That may be another than the first of its process.
    pub thread: i32,
    /// What it wants.
    pub call: Call,
}

/// What a thread wants from the kernel. `socket` is its number for a descriptor, which may be none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// `bind(2)`.
    Bind {
        /// Of which socket.
        socket: RawFd,
        /// To which address: a copy, which the program cannot change any more.
        address: Address,
    },
    /// `bind(2)` with an address that cannot be read: the program's mistake (`EFAULT`), or we are not allowed to, or
    /// nobody answers who is to read it for us. The same of all arguments of a call of 32 bits.
    BindUnreadable {
        /// Of which socket; -1 if even that cannot be read.
        socket: RawFd,
        /// Why it cannot be read.
        errno: i32,
    },
    /// `listen(2)`.
    Listen {
        /// On which socket.
        socket: RawFd,
        /// How long a queue it wants.
        backlog: i32,
    },
}

impl Call {
    /// The program's number of the socket it is about.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        match self {
            Call::Bind { socket, .. } | Call::BindUnreadable { socket, .. } | Call::Listen { socket, .. } => *socket,
        }
    }
}

/// What the thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Success,
    /// It failed with this `errno`.
    Error(i32),
    /// The kernel shall do it as if we were not there.
    Continue,
}

impl From<io::Result<()>> for Answer {
    fn from(result: io::Result<()>) -> Answer {
        match result {
            Ok(()) => Answer::Success,
            Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

/// Whether somebody was there to hear an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The thread goes on with it.
    Delivered,
    /// The thread was killed, or on old kernels interrupted, in which case it asks again.
    Gone,
}

impl BindWatch {
    /// The same, with this one to look into the program.
    #[must_use]
    pub fn seen_by(self, tracer: &Tracer) -> BindWatch {
        BindWatch { tracer: tracer.clone(), ..self }
    }

    /// The next call. `None`: nobody is left under the filter, and nobody ever will be again.
    ///
    /// Never blocks, as long as nobody else receives from the same watch.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn next(&self) -> io::Result<Option<Request>> {
        loop {
            let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                // Also of a look that waits for nothing.
                Err(rustix::io::Errno::INTR) => continue,
                looked => looked?,
            };
            let found = polled[0].revents();
            if found.contains(PollFlags::IN) {
                // One who was killed in this very moment is nobody to be told of.
                if let Some(request) = self.receive()? {
                    return Ok(Some(request));
                }
            } else if found.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(None);
            } else {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    fn receive(&self) -> io::Result<Option<Request>> {
        // SAFETY: structures of numbers, for which zero is a value, and which the kernel wants to be zero.
        let mut notice: Notice = unsafe { MaybeUninit::zeroed().assume_init() };
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let libc::seccomp_notif { id, pid, data, .. } = notice.told;
        let (id, thread) = (RequestId(id), pid.cast_signed());
        let call = read_call(&self.tracer, thread, i64::from(data.nr), data.args)
            // The filter tells of nothing else.
            .ok_or(io::ErrorKind::InvalidData)?;
        // A thread number may be given again: what we read is of the one who asked only if he still waits.
        Ok(self.is_waiting(id)?.then_some(Request { id, thread, call }))
    }

    /// True if this call was received by us or by one before us, was not answered, and its thread still waits.
    ///
    /// # Errors
    /// None is known.
    pub fn is_waiting(&self, id: RequestId) -> io::Result<bool> {
        let mut number = id.0;
        match self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut number) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Our own descriptor of the socket a call is about. `None` if nobody waits any more.
    ///
    /// # Errors
    /// `EBADF` if the program has no such descriptor, else those of [`Tracer::take_fd`].
    pub fn take_socket(&self, request: &Request) -> io::Result<Option<OwnedFd>> {
        let taken = self.tracer.take_fd(request.thread, request.call.socket());
        // Of one who is gone the number may mean somebody else by now.
        if self.is_waiting(request.id)? { taken.map(Some) } else { Ok(None) }
    }

    /// Lets the thread go on.
    ///
    /// # Errors
    /// `EINPROGRESS` if it was answered already.
    pub fn answer(&self, id: RequestId, answer: Answer) -> io::Result<Delivery> {
        let (error, flags) = match answer {
            Answer::Success => (0, 0),
            Answer::Error(errno) => (-errno, 0),
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id: id.0, val: 0, error, flags };
        delivered(self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response))
    }

    /// Puts a file of ours in the place of the one the program has under this number. Its call still waits.
    ///
    /// Whether the file blocks is a property of the file, which the program then shares with us.
    ///
    /// # Errors
    /// `EMFILE` if the number is beyond what the program may have.
    pub fn replace(&self, id: RequestId, number: RawFd, file: impl AsFd, close_on_exec: bool) -> io::Result<Delivery> {
        let mut order = libc::seccomp_notif_addfd {
            id: id.0,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: file.as_fd().as_raw_fd().cast_unsigned(),
            newfd: number.cast_unsigned(),
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        delivered(self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut order))
    }

    /// The same, for awaiting calls: call [`BindWatch::next`] when it is readable.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub fn watch(self) -> io::Result<AsyncFd<BindWatch>> {
        // SAFETY: `as_raw_fd` is that of the file in a private field that nothing replaces: always the same, and open
        // until the AsyncFd drops it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// One of the `ioctl`s of `linux/seccomp.h`. `argument` points to the structure that the number of it tells.
    fn control<T>(&self, order: libc::Ioctl, argument: *mut T) -> io::Result<i32> {
        // SAFETY: the kernel reads and writes a structure of the size that is part of `order`, which is at most that
        // of what each caller here owns and points to.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), order, argument) } {
            -1 => Err(io::Error::last_os_error()),
            result => Ok(result),
        }
    }
}

fn delivered(result: io::Result<i32>) -> io::Result<Delivery> {
    match result {
        Ok(_) => Ok(Delivery::Delivered),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Delivery::Gone),
        Err(error) => Err(error),
    }
}

/// A notification, with room for what later kernels may add to it.
#[repr(C)]
struct Notice {
    told: libc::seccomp_notif,
    spare: [u64; 32],
}

/// `None` if it is neither of the two.
fn read_call(tracer: &Tracer, thread: i32, number: i64, arguments: [u64; 6]) -> Option<Call> {
    let [first, second, third, ..] = arguments;
    match number {
        libc::SYS_listen => Some(listen_call(first, second)),
        libc::SYS_bind => Some(bind_call(tracer, thread, first, second, third)),
        i386::LISTEN if cfg!(target_arch = "x86_64") => Some(listen_call(first, second)),
        i386::BIND if cfg!(target_arch = "x86_64") => Some(bind_call(tracer, thread, first, second, third)),
        i386::SOCKETCALL if cfg!(target_arch = "x86_64") => socketcall(tracer, thread, first as u32, second),
        _ => None,
    }
}

/// The kernel takes the lower half of what is an `int`.
fn int(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

fn listen_call(socket: u64, backlog: u64) -> Call {
    Call::Listen { socket: int(socket), backlog: int(backlog) }
}

fn bind_call(tracer: &Tracer, thread: i32, socket: u64, at: u64, length: u64) -> Call {
    match tracer.read_memory(thread, at, length as u32).and_then(Address::new) {
        Ok(address) => Call::Bind { socket: int(socket), address },
        Err(error) => unreadable(int(socket), &error),
    }
}

/// The call whose arguments lie in memory at `at`.
fn socketcall(tracer: &Tracer, thread: i32, call: u32, at: u64) -> Option<Call> {
    let read = |count: u32| tracer.read_memory(thread, at, count * i386::WORD);
    let made = match call {
        i386::SOCKETCALL_BIND => read(3).map(|bytes| {
            let [socket, address, length] = [0, 1, 2].map(|number| i386::argument(&bytes, number));
            bind_call(tracer, thread, socket, address, length)
        }),
        i386::SOCKETCALL_LISTEN => {
            read(2).map(|bytes| listen_call(i386::argument(&bytes, 0), i386::argument(&bytes, 1)))
        }
        _ => return None,
    };
    Some(made.unwrap_or_else(|error| unreadable(-1, &error)))
}

fn unreadable(socket: RawFd, error: &io::Error) -> Call {
    Call::BindUnreadable { socket, errno: error.raw_os_error().unwrap_or(libc::EFAULT) }
}

impl From<OwnedFd> for BindWatch {
    /// The one a predecessor had. Into the program we look by ourselves, unless somebody else is named.
    fn from(file: OwnedFd) -> BindWatch {
        BindWatch { file, tracer: Tracer::direct() }
    }
}

impl AsFd for BindWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for BindWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
