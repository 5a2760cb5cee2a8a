//! How the watch gets from the child, which makes it, to the daemon.
//!
//! The child shares the daemon's memory, but not its open files, and the daemon's thread sleeps while the child
//! prepares itself. So the child sends the watch into a socket pair (`SCM_RIGHTS`), and the daemon receives it
//! afterwards. The daemon's end of the pair is kept for the next God before the child is made. So the next God can
//! receive the watch if this one is killed meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bind_watch::BindWatch;
use crate::os::net::fdpass;

/// The daemon's end: the watch arrives here.
#[derive(Debug)]
pub struct Pending {
    socket: OwnedFd,
}

/// Makes both ends, close-on-exec. The second is for [`crate::os::process::spawn::Confinement::watch_binds`]. The
/// daemon must close it after the start.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn handover() -> io::Result<(Pending, OwnedFd)> {
    let (ours, theirs) = fdpass::channel_pair()?;
    Ok((Pending { socket: ours }, theirs))
}

impl Pending {
    /// The watch, once the child has sent it.
    ///
    /// # Errors
    /// `WouldBlock` while the child prepares itself, which it has done when [`crate::os::process::spawn::spawn`]
    /// returns; `UnexpectedEof` if the child ended before it sent one.
    pub fn take(&self) -> io::Result<BindWatch> {
        let (_, mut files) = fdpass::receive(&self.socket, &mut [0; 1])?;
        files.pop().map(BindWatch::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl From<OwnedFd> for Pending {
    /// The end that an earlier God made.
    fn from(socket: OwnedFd) -> Pending {
        Pending { socket }
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The child's part: makes the watch and sends it to the other end. Allocates and locks nothing.
pub(crate) fn install_and_leave(socket: BorrowedFd<'_>) -> io::Result<()> {
    let watch = super::filter::install()?;
    // SAFETY: the kernel has just opened it; borrowed for one call. It is close-on-exec, so `exec` closes it.
    let watch = unsafe { BorrowedFd::borrow_raw(watch) };
    fdpass::send(socket, b"w", Some(watch)).map(drop)
}
