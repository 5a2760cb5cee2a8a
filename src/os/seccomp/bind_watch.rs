//! The descriptor on which intercepted calls arrive and are answered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::call::{Answer, Delivery, Request, RequestId, read_call};
use crate::os::tracer::Tracer;

/// Where the calls of one program and its descendants are told.
#[derive(Debug)]
pub struct BindWatch {
    file: OwnedFd,
    pub(super) tracer: Tracer,
}

impl BindWatch {
    /// The same, with this one to look into the program.
    #[must_use]
    pub fn seen_by(self, tracer: &Tracer) -> BindWatch {
        BindWatch { tracer: tracer.clone(), ..self }
    }

    /// The next call. `None`: nobody is left under the filter, and nobody ever will be again.
    ///
    /// Never blocks, as long as nobody else receives from the same watch.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn next(&self) -> io::Result<Option<Request>> {
        loop {
            let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                // Also of a look that waits for nothing.
                Err(rustix::io::Errno::INTR) => continue,
                looked => looked?,
            };
            let found = polled[0].revents();
            if found.contains(PollFlags::IN) {
                // One who was killed in this very moment is nobody to be told of.
                if let Some(request) = self.receive()? {
                    return Ok(Some(request));
                }
            } else if found.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(None);
            } else {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    fn receive(&self) -> io::Result<Option<Request>> {
        // SAFETY: structures of numbers, for which zero is a value, and which the kernel wants to be zero.
        let mut notice: Notice = unsafe { MaybeUninit::zeroed().assume_init() };
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let libc::seccomp_notif { id, pid, data, .. } = notice.told;
        let (id, thread) = (RequestId(id), pid.cast_signed());
        let call = read_call(&self.tracer, thread, i64::from(data.nr), data.args)
            // The filter tells of nothing else.
            .ok_or(io::ErrorKind::InvalidData)?;
        // A thread number may be given again: what we read is of the one who asked only if he still waits.
        Ok(self.is_waiting(id)?.then_some(Request { id, thread, call }))
    }

    /// True if this call was received by us or by one before us, was not answered, and its thread still waits.
    ///
    /// # Errors
    /// None is known.
    pub fn is_waiting(&self, id: RequestId) -> io::Result<bool> {
        let mut number = id.0;
        match self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut number) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Our own descriptor of the socket a call is about. `None` if nobody waits any more.
    ///
    /// # Errors
    /// `EBADF` if the program has no such descriptor, else those of [`Tracer::take_fd`].
    pub fn take_socket(&self, request: &Request) -> io::Result<Option<OwnedFd>> {
        let taken = self.tracer.take_fd(request.thread, request.call.socket());
        // Of one who is gone the number may mean somebody else by now.
        if self.is_waiting(request.id)? { taken.map(Some) } else { Ok(None) }
    }

    /// Lets the thread go on.
    ///
    /// # Errors
    /// `EINPROGRESS` if it was answered already.
    pub fn answer(&self, id: RequestId, answer: Answer) -> io::Result<Delivery> {
        let (error, flags) = match answer {
            Answer::Success => (0, 0),
            Answer::Error(errno) => (-errno, 0),
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id: id.0, val: 0, error, flags };
        delivered(self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response))
    }

    /// Puts a file of ours in the place of the one the program has under this number. Its call still waits.
    ///
    /// Whether the file blocks is a property of the file, which the program then shares with us.
    ///
    /// # Errors
    /// `EMFILE` if the number is beyond what the program may have.
    pub fn replace(&self, id: RequestId, number: RawFd, file: impl AsFd, close_on_exec: bool) -> io::Result<Delivery> {
        let mut order = libc::seccomp_notif_addfd {
            id: id.0,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: file.as_fd().as_raw_fd().cast_unsigned(),
            newfd: number.cast_unsigned(),
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        delivered(self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut order))
    }

    /// The same, for awaiting calls: call [`BindWatch::next`] when it is readable.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub fn watch(self) -> io::Result<AsyncFd<BindWatch>> {
        // SAFETY: `as_raw_fd` is that of the file in a private field that nothing replaces: always the same, and open
        // until the AsyncFd drops it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// One of the `ioctl`s of `linux/seccomp.h`. `argument` points to the structure that the number of it tells.
    fn control<T>(&self, order: libc::Ioctl, argument: *mut T) -> io::Result<i32> {
        // SAFETY: the kernel reads and writes a structure of the size that is part of `order`, which is at most that
        // of what each caller here owns and points to.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), order, argument) } {
            -1 => Err(io::Error::last_os_error()),
            result => Ok(result),
        }
    }
}

fn delivered(result: io::Result<i32>) -> io::Result<Delivery> {
    match result {
        Ok(_) => Ok(Delivery::Delivered),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Delivery::Gone),
        Err(error) => Err(error),
    }
}

/// A notification, with room for what later kernels may add to it.
#[repr(C)]
struct Notice {
    told: libc::seccomp_notif,
    spare: [u64; 32],
}

impl From<OwnedFd> for BindWatch {
    /// The one a predecessor had. Into the program we look by ourselves, unless somebody else is named.
    fn from(file: OwnedFd) -> BindWatch {
        BindWatch { file, tracer: Tracer::direct() }
    }
}

impl AsFd for BindWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for BindWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
