//! The looking itself, and the end of a line at which it is done on another's word.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::os::net::address::LONGEST;
use crate::os::net::packets;
use crate::os::process::pidfd;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A file that a process has open.
    File { thread: i32, number: RawFd },
    /// Memory, no more than an address is long.
    Memory { thread: i32, from: u64, length: u32 },
    /// `/proc/TID/syscall`.
    Call { thread: i32 },
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) file: Option<OwnedFd>,
}

const FILE: u64 = 1;
const MEMORY: u64 = 2;
const CALL: u64 = 3;

const WORD: usize = size_of::<u64>();
/// Bytes of a question.
const QUESTION: usize = 5 * WORD;
/// Bytes of an answer before what was seen.
const HEAD: usize = 2 * WORD;
/// No answer is longer: the line of a system call has nine numbers.
pub(super) const LONGEST_ANSWER: usize = HEAD + 256;

impl Wish {
    pub(super) fn to_bytes(self, question: u64) -> [u8; QUESTION] {
        let (what, thread, arguments) = match self {
            Wish::File { thread, number } => (FILE, thread, [u64::from(number.cast_unsigned()), 0]),
            Wish::Memory { thread, from, length } => (MEMORY, thread, [from, u64::from(length)]),
            Wish::Call { thread } => (CALL, thread, [0, 0]),
        };
        let mut bytes = [0; QUESTION];
        let words = [question, what, u64::from(thread.cast_unsigned()), arguments[0], arguments[1]];
        for (place, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// With the number of the question.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(u64, Wish)> {
        let (question, what, thread) = (word(bytes, 0)?, word(bytes, 1)?, word(bytes, 2)?);
        let (first, second) = (word(bytes, 3)?, word(bytes, 4)?);
        let thread = (thread as u32).cast_signed();
        let wish = match what {
            FILE => Wish::File { thread, number: (first as u32).cast_signed() },
            MEMORY => Wish::Memory { thread, from: first, length: second as u32 },
            CALL => Wish::Call { thread },
            _ => return None,
        };
        Some((question, wish))
    }

    /// Looks, by ourselves.
    pub(super) fn fulfil(self) -> io::Result<Seen> {
        match self {
            Wish::File { thread, number } => {
                pidfd::take_fd(thread, number).map(|file| Seen { file: Some(file), ..Seen::default() })
            }
            Wish::Memory { thread, from, length } => {
                read_memory(thread, from, length).map(|bytes| Seen { bytes, file: None })
            }
            Wish::Call { thread } => {
                fs::read(format!("/proc/{thread}/syscall")).map(|bytes| Seen { bytes, file: None })
            }
        }
    }
}

impl Seen {
    /// The number of the question it answers, and what was seen, or why nothing was.
    pub(super) fn from_packet(bytes: &[u8], mut files: Vec<OwnedFd>) -> Option<(u64, io::Result<Seen>)> {
        let seen = match i32::try_from(word(bytes, 1)?).ok()? {
            0 => Ok(Seen { bytes: bytes[HEAD..].to_vec(), file: files.pop() }),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        Some((word(bytes, 0)?, seen))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at * WORD..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// Whoever looks on another's word.
#[derive(Debug)]
pub struct TraceProxy {
    socket: OwnedFd,
}

impl TraceProxy {
    /// Answers all that was asked so far. Never waits.
    pub fn answer(&self) {
        let mut bytes = [0; QUESTION];
        while let Ok((count @ 1.., _)) = packets::receive(&self.socket, &mut bytes) {
            let Some((question, wish)) = Wish::from_bytes(&bytes[..count]) else { continue };
            let said = match wish.fulfil() {
                Ok(seen) => self.say(question, 0, &seen.bytes, seen.file.as_ref().map(AsFd::as_fd)),
                Err(error) => Err(error),
            };
            if let Err(error) = said {
                // Who cannot be told this, either, does not wait for ever.
                let _ = self.say(question, error.raw_os_error().unwrap_or(libc::EIO), &[], None);
            }
        }
    }

    fn say(&self, question: u64, errno: i32, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut answer = [0; LONGEST_ANSWER];
        let length = HEAD + bytes.len().min(LONGEST_ANSWER - HEAD);
        answer[..WORD].copy_from_slice(&question.to_ne_bytes());
        answer[WORD..HEAD].copy_from_slice(&u64::from(errno.unsigned_abs()).to_ne_bytes());
        answer[HEAD..length].copy_from_slice(&bytes[..length - HEAD]);
        packets::send(&self.socket, &answer[..length], file.as_slice())
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
    // SAFETY: the kernel writes to our buffer as many bytes as it has; the other address is none of ours.
    match unsafe { libc::process_vm_readv(thread, &raw const ours, 1, &raw const theirs, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count if count.cast_unsigned() == bytes.len() => Ok(bytes),
        _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}
