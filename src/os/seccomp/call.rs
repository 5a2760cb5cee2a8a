//! An intercepted call, as it is read from its thread, and what it is answered with.

use std::io;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::i386;
use crate::os::net::address::Address;
use crate::os::tracer::Tracer;

/// Which call it is, among those of one watch. They are numbered in the order they were made, from a random start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub(super) u64);

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

/// `None` if it is neither of the two.
pub(super) fn read_call(tracer: &Tracer, thread: i32, number: i64, arguments: [u64; 6]) -> Option<Call> {
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
