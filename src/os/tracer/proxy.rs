//! The requests to look into a process, how they are carried out, and the proxy, which carries them out for another
//! process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::os::net::address::LONGEST;
use crate::os::net::packets;
use crate::os::process::pidfd;

/// A request to look into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Duplicate a file that the process has open under this number.
    File { thread: i32, number: RawFd },
    /// Read memory; at most as many bytes as the longest socket address has.
    Memory { thread: i32, from: u64, length: u32 },
    /// Read `/proc/TID/syscall`.
    Call { thread: i32 },
}

/// What a successful request yields.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) bytes: Vec<u8>,
    pub(super) file: Option<OwnedFd>,
}

const FILE: u64 = 1;
const MEMORY: u64 = 2;
const CALL: u64 = 3;

const WORD: usize = size_of::<u64>();
/// Length of a request, in bytes.
const REQUEST: usize = 5 * WORD;
/// Bytes of a response before its content.
const HEAD: usize = 2 * WORD;
/// Longest response, in bytes: the line of a system call has nine numbers.
pub(super) const LONGEST_RESPONSE: usize = HEAD + 256;

impl Request {
    pub(super) fn to_bytes(self, sequence: u64) -> [u8; REQUEST] {
        let (kind, thread, arguments) = match self {
            Request::File { thread, number } => (FILE, thread, [u64::from(number.cast_unsigned()), 0]),
            Request::Memory { thread, from, length } => (MEMORY, thread, [from, u64::from(length)]),
            Request::Call { thread } => (CALL, thread, [0, 0]),
        };
        let mut bytes = [0; REQUEST];
        let words = [sequence, kind, u64::from(thread.cast_unsigned()), arguments[0], arguments[1]];
        for (place, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Reads a packet. Returns the number of the request, too.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(u64, Request)> {
        let (sequence, kind, thread) = (word(bytes, 0)?, word(bytes, 1)?, word(bytes, 2)?);
        let (first, second) = (word(bytes, 3)?, word(bytes, 4)?);
        let thread = (thread as u32).cast_signed();
        let request = match kind {
            FILE => Request::File { thread, number: (first as u32).cast_signed() },
            MEMORY => Request::Memory { thread, from: first, length: second as u32 },
            CALL => Request::Call { thread },
            _ => return None,
        };
        Some((sequence, request))
    }

    /// Carries the request out in this process.
    pub(super) fn fulfil(self) -> io::Result<Response> {
        match self {
            Request::File { thread, number } => {
                pidfd::take_fd(thread, number).map(|file| Response { file: Some(file), ..Response::default() })
            }
            Request::Memory { thread, from, length } => {
                read_memory(thread, from, length).map(|bytes| Response { bytes, file: None })
            }
            Request::Call { thread } => {
                fs::read(format!("/proc/{thread}/syscall")).map(|bytes| Response { bytes, file: None })
            }
        }
    }
}

impl Response {
    /// Reads a packet: the number of the request, and its result.
    pub(super) fn from_packet(bytes: &[u8], mut files: Vec<OwnedFd>) -> Option<(u64, io::Result<Response>)> {
        let response = match i32::try_from(word(bytes, 1)?).ok()? {
            0 => Ok(Response { bytes: bytes[HEAD..].to_vec(), file: files.pop() }),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        Some((word(bytes, 0)?, response))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at * WORD..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// The end of a link at which the requests of a [`Tracer`](super::Tracer) are carried out.
#[derive(Debug)]
pub struct TraceProxy {
    socket: OwnedFd,
}

impl TraceProxy {
    /// Answers all requests that have arrived. Never waits.
    pub fn answer(&self) {
        let mut bytes = [0; REQUEST];
        while let Ok((count @ 1.., _)) = packets::receive(&self.socket, &mut bytes) {
            let Some((sequence, request)) = Request::from_bytes(&bytes[..count]) else { continue };
            let sent = match request.fulfil() {
                Ok(response) => self.send(sequence, 0, &response.bytes, response.file.as_ref().map(AsFd::as_fd)),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                // If this fails, too, the tracer stops waiting at its limit.
                let _ = self.send(sequence, error.raw_os_error().unwrap_or(libc::EIO), &[], None);
            }
        }
    }

    fn send(&self, sequence: u64, errno: i32, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut packet = [0; LONGEST_RESPONSE];
        let length = HEAD + bytes.len().min(LONGEST_RESPONSE - HEAD);
        packet[..WORD].copy_from_slice(&sequence.to_ne_bytes());
        packet[WORD..HEAD].copy_from_slice(&u64::from(errno.unsigned_abs()).to_ne_bytes());
        packet[HEAD..length].copy_from_slice(&bytes[..length - HEAD]);
        packets::send(&self.socket, &packet[..length], file.as_slice())
    }
}

impl From<OwnedFd> for TraceProxy {
    fn from(socket: OwnedFd) -> TraceProxy {
        TraceProxy { socket }
    }
}

impl AsRawFd for TraceProxy {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read_memory(thread: i32, from: u64, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (length as usize).min(LONGEST)];
    let ours = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let theirs = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel writes at most as many bytes as the local buffer has; the other address is of another process.
    match unsafe { libc::process_vm_readv(thread, &raw const ours, 1, &raw const theirs, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count if count.cast_unsigned() == bytes.len() => Ok(bytes),
        _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}
