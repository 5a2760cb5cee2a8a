//! Passing open files over Unix stream sockets (`SCM_RIGHTS`): at most one with each message, as Node's channels
//! require.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pmr_worker::os::rights;
pub use pmr_worker::os::rights::{is_shortage, watch};
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

/// Most files taken from one `recvmsg`. The kernel closes the others, so that a peer cannot fill the table of open
/// files at once.
const FILES_PER_READ: usize = 4;

/// A connected pair of stream sockets, both close-on-exec. The first one, for this process, is non-blocking.
///
/// # Errors
/// Those of `socketpair(2)`: `EMFILE`, `ENFILE`.
pub fn channel_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Duplicates a file that this process was started with, by its number, close-on-exec. The original stays open.
///
/// # Errors
/// `EBADF` if no file is open under the number.
pub fn inherited(number: u16) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for one call, which fails if no such file is open, and does not change it.
    let original = unsafe { BorrowedFd::borrow_raw(i32::from(number)) };
    Ok(rustix::io::fcntl_dupfd_cloexec(original, 3)?)
}

/// Sends bytes and, attached to the first of them, a copy of `file`. Returns how many bytes were sent. If any were, the
/// file was sent, too.
///
/// # Errors
/// `WouldBlock` when the socket is full; `ETOOMANYREFS` when too many files of this user are on their way; `EPIPE` when
/// the peer is gone. Nothing was sent in these cases. Never raises SIGPIPE.
pub fn send(socket: impl AsFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(file) = &file {
        let fits = control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(file)));
        debug_assert!(fits, "the space is made for one file");
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes and the files that are attached to them, which are close-on-exec. 0 bytes is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing has arrived; `ECONNRESET` when the peer died with unread bytes.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    rights::receive(socket, buffer, &mut [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_PER_READ))])
}

/// Copies the next bytes and leaves them in the socket. Returns how many there are, 0 at the end of the stream, and
/// whether a file is attached to the last of them. Bytes after a file are not returned before the file is taken.
///
/// # Errors
/// Those of [`receive`].
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut RecvAncillaryBuffer::default(), flags)?;
    // The call has no room for a file, so the kernel reports that it left one out.
    Ok((got.bytes, got.flags.contains(ReturnFlags::CTRUNC)))
}

/// Removes as many bytes as the buffer holds, which must have arrived. Files that are attached to them are closed.
///
/// # Errors
/// Those of [`receive`].
pub fn take(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<()> {
    let mut taken = 0;
    while taken < buffer.len() {
        match recv(&socket, &mut buffer[taken..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => taken += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How many sent bytes the peer has not read; 0 if it has read all. The kernel counts its own overhead, so the number
/// is higher than that of the bytes.
///
/// # Errors
/// If the file is no socket.
pub fn unread(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the call writes one int to the given place.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        0 => Ok(u64::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_arrives_with_its_bytes_and_works() {
        let (ours, theirs) = channel_pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(send(&ours, b"take this\n", Some(writer.as_fd())).unwrap(), 10);
        drop(writer);
        let mut buffer = [0; 64];
        let (count, mut files) = receive(&theirs, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"take this\n");
        let file = files.pop().unwrap();
        assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::File::from(file).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn plain_bytes_have_no_file_and_a_full_socket_is_an_error() {
        let (ours, theirs) = channel_pair().unwrap();
        send(&ours, b"plain", None).unwrap();
        let (count, files) = receive(&theirs, &mut [0; 16]).unwrap();
        assert_eq!((count, files.len()), (5, 0));
        let chunk = [7; 65536];
        let full = loop {
            if let Err(error) = send(&ours, &chunk, None) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn bytes_that_were_peeked_at_stay_until_they_are_taken() {
        let (ours, theirs) = channel_pair().unwrap();
        assert_eq!(unread(&ours).unwrap(), 0);
        send(&ours, b"plain", None).unwrap();
        send(&ours, b"file", Some(ours.as_fd())).unwrap();
        send(&ours, b"behind", None).unwrap();
        assert!(unread(&ours).unwrap() >= 15);
        let mut buffer = [0; 64];
        for _ in 0..2 {
            assert_eq!(peek(&theirs, &mut buffer).unwrap(), (9, true));
            assert_eq!(&buffer[..9], b"plainfile");
        }
        take(&theirs, &mut buffer[..5]).unwrap();
        assert_eq!(peek(&theirs, &mut buffer).unwrap(), (4, true));
        take(&theirs, &mut buffer[..4]).unwrap();
        assert_eq!(peek(&theirs, &mut buffer).unwrap(), (6, false));
        take(&theirs, &mut buffer[..6]).unwrap();
        assert_eq!(peek(&theirs, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(unread(&ours).unwrap(), 0);
        drop(ours);
        assert_eq!(peek(&theirs, &mut buffer).unwrap(), (0, false));
    }

    #[test]
    fn a_send_to_a_gone_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = channel_pair().unwrap();
        drop(theirs);
        assert_eq!(send(&ours, b"x", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(receive(&ours, &mut [0; 16]).unwrap().0, 0);
    }
}
