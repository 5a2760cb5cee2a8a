//! An intercepted call, as it is read from its thread, and what it is answered with.

use std::io;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::i386;
use crate::os::net::address::Address;
use crate::os::tracer::Tracer;

/// Number of a call at its watch. Calls are numbered in the order in which they are made, from a random start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub(super) u64);

/// A call that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number, by which it is answered.
    pub id: RequestId,
    /// The thread that made it, which need not be the first of its process.
    pub thread: i32,
    /// The call itself.
    pub call: Call,
}

/// A call with its arguments. `socket` is the program's number for the descriptor, which may be invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// `bind(2)`.
    Bind {
        /// The socket.
        socket: RawFd,
        /// The address: a copy, which the program cannot change any more.
        address: Address,
    },
    /// `bind(2)` with an address that cannot be read: the program passed an invalid pointer (`EFAULT`), or the kernel
    /// does not allow it, or the tracer's proxy does not respond. Also a 32-bit call whose arguments cannot be read.
    BindUnreadable {
        /// The socket; -1 if even that cannot be read.
        socket: RawFd,
        /// The error of reading.
        errno: i32,
    },
    /// `listen(2)`.
    Listen {
        /// The socket.
        socket: RawFd,
        /// The requested length of the accept queue.
        backlog: i32,
    },
}

impl Call {
    /// The program's number of the socket.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        match self {
            Call::Bind { socket, .. } | Call::BindUnreadable { socket, .. } | Call::Listen { socket, .. } => *socket,
        }
    }
}

/// What the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Success.
    Success,
    /// A failure with this `errno`.
    Error(i32),
    /// The kernel executes the call as if it had not been intercepted.
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

/// Whether the thread still waited for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The thread goes on with the answer.
    Delivered,
    /// The thread was killed, or on old kernels interrupted; then it makes the call again.
    Gone,
}

/// Reads a call. `None` if it is neither `bind` nor `listen`.
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

/// An argument of type `int`: the kernel uses the lower half.
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

/// Reads a `socketcall`, whose arguments are in memory at `at`.
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
