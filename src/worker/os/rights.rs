//! What stream and packet sockets have in common when open files are attached to their bytes (`SCM_RIGHTS`).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers one end of a channel with the runtime, for reading and writing. Makes it non-blocking.
///
/// # Errors
/// If the runtime cannot watch the socket.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    // SAFETY: the number of an OwnedFd never changes, and it is open until the AsyncFd drops it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::WRITABLE) }?)
}

/// Receives bytes and the files that are attached to them, which are close-on-exec. The kernel closes files that do not
/// fit into `space`. 0 bytes is the end of a stream.
///
/// # Errors
/// `WouldBlock` when nothing has arrived; `ECONNRESET` when the peer died with unread bytes.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    space: &mut [MaybeUninit<u8>],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = RecvAncillaryBuffer::new(space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    Ok((got.bytes, files))
}

/// True if a file could not be sent or received because too many are on their way, or this process has too many open. A
/// later attempt may succeed.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::TOOMANYREFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
