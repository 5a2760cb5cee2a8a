//! The descriptor on which intercepted calls arrive and are answered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::call::{Answer, Delivery, Request, RequestId, read_call};
use crate::os::tracer::Tracer;

/// Receives the intercepted calls of one program and its descendants, and answers them.
#[derive(Debug)]
pub struct BindWatch {
    file: OwnedFd,
    pub(super) tracer: Tracer,
}

impl BindWatch {
    /// The same watch, which uses this tracer to look into the program.
    #[must_use]
    pub fn seen_by(self, tracer: &Tracer) -> BindWatch {
        BindWatch { tracer: tracer.clone(), ..self }
    }

    /// The next call. `None` if no process is left under the filter; then none can ever be again.
    ///
    /// Never blocks, as long as no other process receives from the same watch.
    ///
    /// # Errors
    /// `WouldBlock` when no call waits.
    pub fn next(&self) -> io::Result<Option<Request>> {
        loop {
            let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                // A signal can interrupt even a poll that does not wait.
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let found = polled[0].revents();
            if found.contains(PollFlags::IN) {
                // `None` if the thread was killed in this very moment.
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
        // SAFETY: structures of numbers, for which zero is a valid value, and which the kernel requires to be zero.
        let mut notification: Notification = unsafe { MaybeUninit::zeroed().assume_init() };
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let libc::seccomp_notif { id, pid, data, .. } = notification.kernel;
        let (id, thread) = (RequestId(id), pid.cast_signed());
        let call = read_call(&self.tracer, thread, i64::from(data.nr), data.args)
            // The filter reports no other calls.
            .ok_or(io::ErrorKind::InvalidData)?;
        // A thread number may be used again: what was read is of the calling thread only if that still waits.
        Ok(self.is_waiting(id)?.then_some(Request { id, thread, call }))
    }

    /// True if this call was received, now or by an earlier God, was not answered, and its thread still waits.
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

    /// Duplicates the socket of a call. `None` if the thread does not wait any more.
    ///
    /// # Errors
    /// `EBADF` if no file is open under the number, else those of [`Tracer::take_fd`].
    pub fn take_socket(&self, request: &Request) -> io::Result<Option<OwnedFd>> {
        let taken = self.tracer.take_fd(request.thread, request.call.socket());
        // If the thread is gone, its number may stand for another one by now.
        if self.is_waiting(request.id)? { taken.map(Some) } else { Ok(None) }
    }

    /// Answers a call; its thread goes on.
    ///
    /// # Errors
    /// `EINPROGRESS` if the call was answered already.
    pub fn answer(&self, id: RequestId, answer: Answer) -> io::Result<Delivery> {
        let (error, flags) = match answer {
            Answer::Success => (0, 0),
            Answer::Error(errno) => (-errno, 0),
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id: id.0, val: 0, error, flags };
        delivered(self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response))
    }

    /// Replaces the file that the program has open under this number by `file`. The call still waits.
    ///
    /// Whether the file blocks is a property that program and daemon share from then on.
    ///
    /// # Errors
    /// `EMFILE` if the number is beyond the program's limit.
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

    /// Registers the watch with the runtime. When it is readable, call [`BindWatch::next`].
    ///
    /// # Errors
    /// If the runtime cannot watch the file.
    pub fn watch(self) -> io::Result<AsyncFd<BindWatch>> {
        // SAFETY: `as_raw_fd` returns the number of the file in a private field that is never replaced, so the number
        // stays the same and open until the AsyncFd drops it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// One of the `ioctl`s of `linux/seccomp.h`. `argument` points to the structure that belongs to `order`.
    fn control<T>(&self, order: libc::Ioctl, argument: *mut T) -> io::Result<i32> {
        // SAFETY: the kernel reads and writes a structure of the size that is part of `order`. All callers here pass a
        // pointer to a value of theirs that is at least as large.
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

/// A notification, with room for fields that later kernels may add.
#[repr(C)]
struct Notification {
    kernel: libc::seccomp_notif,
    spare: [u64; 32],
}

impl From<OwnedFd> for BindWatch {
    /// The watch that an earlier God had. It looks into the program without a proxy, until [`BindWatch::seen_by`].
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
