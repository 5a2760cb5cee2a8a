//! Requests to the kernel for sockets: one request over netlink, a list of messages as the answer. Layouts are those of
//! `linux/netlink.h`.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// Type of the request and of each message of its answer: `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 0x1;
/// Requests all sockets that match, not a single one.
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
/// Size of the buffer, in bytes. The kernel fills at most this much at once.
const BUFFER: usize = 32 << 10;

/// Sends a request, and calls `take` with the body of each message of the answer.
pub(super) fn query(body: &[u8], all: bool, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    let length = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = if all { REQUEST | DUMP } else { REQUEST };
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(length.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let (count, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..count];
        while let Some((kind, message)) = split(&mut rest) {
            match kind {
                BY_FAMILY => {
                    take(message);
                    if !all {
                        return Ok(());
                    }
                }
                DONE => return Ok(()),
                ERROR => return failure(message),
                _ => {}
            }
        }
    }
}

/// The next message of a buffer: its kind and its body. Each begins at a multiple of four.
fn split<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = number::<4>(rest, 0).map(u32::from_ne_bytes)? as usize;
    let kind = number::<2>(rest, 4).map(u16::from_ne_bytes)?;
    let message = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

fn failure(message: &[u8]) -> io::Result<()> {
    match number::<4>(message, 0).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes after a message's fixed part: kind and content.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(number::<2>(rest, 0).map(u16::from_ne_bytes)?);
        let kind = number::<2>(rest, 2).map(u16::from_ne_bytes)?;
        let content = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The `N` bytes at this offset, if there are that many.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The four bytes at this offset as a number.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_ne_bytes)
}
