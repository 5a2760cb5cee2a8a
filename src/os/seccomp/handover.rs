//! How the watch gets from the child, which makes it, to us.
//!
//! The child shares our memory, but not our open files, and we sleep while it makes itself ready; so it leaves the
//! watch in a socket pair (`SCM_RIGHTS`), from where we take it when we are awake. Whoever keeps our end of the pair
//! safe before the child is born can take the watch also if the one who started the child is killed meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bind_watch::BindWatch;
use crate::os::net::fdpass;

/// Our end: the watch arrives here.
#[derive(Debug)]
pub struct Pending {
    socket: OwnedFd,
}

/// Both ends, close-on-exec. The second is for [`crate::os::process::spawn::Confinement::watch_binds`], and to be
/// closed by us when the child is on its way.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn handover() -> io::Result<(Pending, OwnedFd)> {
    let (ours, theirs) = fdpass::channel_pair()?;
    Ok((Pending { socket: ours }, theirs))
}

impl Pending {
    /// The watch, once the child has left it.
    ///
    /// # Errors
    /// `WouldBlock` while the child is still getting ready, which is over when [`crate::os::process::spawn::spawn`]
    /// returns; `UnexpectedEof` if it ended before it left one.
    pub fn take(&self) -> io::Result<BindWatch> {
        let (_, mut files) = fdpass::receive(&self.socket, &mut [0; 1])?;
        files.pop().map(BindWatch::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl From<OwnedFd> for Pending {
    /// The one a predecessor made.
    fn from(socket: OwnedFd) -> Pending {
        Pending { socket }
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The child's part: makes the watch and leaves it for whoever has the other end. Allocates and locks nothing.
pub(crate) fn install_and_leave(socket: BorrowedFd<'_>) -> io::Result<()> {
    let watch = super::filter::install()?;
    // SAFETY: the kernel made it just now; borrowed for one call. It is close-on-exec, so it goes with the program.
    let watch = unsafe { BorrowedFd::borrow_raw(watch) };
    fdpass::send(socket, b"w", Some(watch)).map(drop)
}
