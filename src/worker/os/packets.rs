//! Packets with open files over Unix `SOCK_SEQPACKET` sockets: a packet arrives whole, with all its files, or not at
//! all.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::cmsg_space;
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair, sockopt,
};

use super::rights;

/// The most files with one packet.
pub const FILES: usize = 16;

/// A connected pair, both close-on-exec. The first one, for this process, is non-blocking.
///
/// # Errors
/// Those of `socketpair(2)`: `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Takes over the packet socket that this process was started with, by its number, and makes it close-on-exec. Only the
/// first call in a process succeeds, so that the socket has one owner.
///
/// # Errors
/// `EBADF` if no file is open under the number, `ENOTSOCK` and `EPROTOTYPE` if it is no packet socket, `EBUSY` if a
/// socket was taken over before.
pub fn claim(number: u16) -> io::Result<OwnedFd> {
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    // SAFETY: borrowed for calls that return an error if no file is open under the number.
    let original = unsafe { BorrowedFd::borrow_raw(i32::from(number)) };
    if number < 3 {
        return Err(Errno::BADF.into());
    }
    if sockopt::socket_type(original)? != SocketType::SEQPACKET {
        return Err(Errno::PROTOTYPE.into());
    }
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return Err(Errno::BUSY.into());
    }
    rustix::io::fcntl_setfd(original, FdFlags::CLOEXEC)?;
    // SAFETY: the file is open, the parent of this process passed it for this very purpose, and the flag above keeps a
    // second call from owning it, too.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::from(number)) })
}

/// Sends one packet with at most [`FILES`] files.
///
/// # Errors
/// `WouldBlock` when the socket is full; `ETOOMANYREFS` when too many files of this user are on their way; `EPIPE` when
/// the peer is gone. Nothing was sent in these cases. Never raises SIGPIPE.
pub fn send(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet, and its files, which are close-on-exec. 0 bytes is the end. The rest of a packet that is longer
/// than the buffer is lost.
///
/// # Errors
/// `WouldBlock` when there is no packet.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
    past_reset(|| rights::receive(&socket, buffer, &mut space))
}

/// Repeats a call that fails because the peer died with packets unread. The kernel reports that error first, and once;
/// the packets that the peer sent before are still in the queue (`sock_error` in `__skb_try_recv_datagram`; stream
/// sockets return queued bytes first).
fn past_reset<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => call(),
        result => result,
    }
}

/// What [`peek`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A packet of this many bytes, which are in the buffer.
    Whole(usize),
    /// A packet that is longer than the buffer.
    TooLong,
    /// The end: the peer has closed the socket. An empty packet is indistinguishable from that.
    End,
}

/// Copies the next packet and leaves it in the queue.
///
/// # Errors
/// Those of [`receive`].
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Seen> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let got = past_reset(|| {
        Ok(recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut RecvAncillaryBuffer::default(), flags)?)
    })?;
    Ok(match got.bytes {
        _ if got.flags.contains(ReturnFlags::TRUNC) => Seen::TooLong,
        0 => Seen::End,
        bytes => Seen::Whole(bytes),
    })
}

/// Removes the next packet from the queue, whatever its length. Files that are attached to it are closed.
///
/// # Errors
/// Those of [`receive`].
pub fn take(socket: impl AsFd) -> io::Result<()> {
    let mut first = [0; 1];
    past_reset(|| Ok(recv(&socket, &mut first, RecvFlags::DONTWAIT)?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::os::eventually::eventually;

    #[test]
    fn a_packet_arrives_whole_with_all_its_files() {
        let (ours, theirs) = pair().unwrap();
        let files: Vec<_> = (0..FILES).map(|_| ours.as_fd()).collect();
        send(&ours, b"first", &files).unwrap();
        send(&ours, b"second", &[]).unwrap();
        let mut buffer = [0; 64];
        let (count, files) = receive(&theirs, &mut buffer).unwrap();
        assert_eq!((&buffer[..count], files.len()), (&b"first"[..], FILES));
        assert!(rustix::io::fcntl_getfd(&files[0]).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(receive(&theirs, &mut buffer).unwrap().0, 6);
    }

    #[test]
    fn a_packet_that_was_peeked_at_stays_until_it_is_taken() {
        let (ours, theirs) = pair().unwrap();
        send(&theirs, b"with a file", &[theirs.as_fd()]).unwrap();
        send(&theirs, &[7; 100], &[]).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..2 {
            assert_eq!(peek(&ours, &mut buffer).unwrap(), Seen::Whole(11));
        }
        take(&ours).unwrap();
        assert_eq!(peek(&ours, &mut buffer).unwrap(), Seen::TooLong);
        take(&ours).unwrap();
        assert_eq!(peek(&ours, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        eventually("the end of the peer", || peek(&ours, &mut buffer).is_ok_and(|seen| seen == Seen::End));
    }

    #[test]
    fn packets_of_a_peer_that_died_with_packets_unread_are_received() {
        let mut buffer = [0; 64];
        for peeked_before in [false, true] {
            let (ours, theirs) = pair().unwrap();
            send(&theirs, b"last but one", &[]).unwrap();
            send(&theirs, b"last", &[]).unwrap();
            send(&ours, b"unread", &[]).unwrap();
            if peeked_before {
                assert_eq!(peek(&ours, &mut buffer).unwrap(), Seen::Whole(12));
            }
            drop(theirs);
            if !peeked_before {
                assert_eq!(peek(&ours, &mut buffer).unwrap(), Seen::Whole(12));
            }
            take(&ours).unwrap();
            assert_eq!(receive(&ours, &mut buffer).unwrap().0, 4);
            eventually("the end of the peer", || peek(&ours, &mut buffer).is_ok_and(|seen| seen == Seen::End));
        }
    }

    #[test]
    fn only_a_packet_socket_is_taken_over_and_only_once() {
        let error = |number| Errno::from_io_error(&claim(number).unwrap_err());
        assert_eq!(error(60_000), Some(Errno::BADF));
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(error(u16::try_from(stream.as_raw_fd()).unwrap()), Some(Errno::PROTOTYPE));
        let (ours, theirs) = pair().unwrap();
        let number = u16::try_from(std::os::fd::IntoRawFd::into_raw_fd(theirs)).unwrap();
        let claimed = claim(number).unwrap();
        assert_eq!(error(number), Some(Errno::BUSY));
        drop(claimed);
        assert_eq!(peek(&ours, &mut [0; 8]).unwrap(), Seen::End, "it was the only owner");
    }
}
