//! Descriptors that stand for a process. A pid is given to another process once its process is reaped; a pidfd never
//! stands for another one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::reap::Ended;
use super::{proc, tree};

/// Opens the process that has this pid now, even if it is a zombie. Close-on-exec.
///
/// # Errors
/// `ESRCH` if there is no such process, `EMFILE` and `ENFILE`.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Opens the process that has this pid and was started at this time (see [`start_time`]), if it still exists. By these
/// two numbers a daemon finds the processes of its predecessor again.
#[must_use]
pub fn reopen(pid: i32, start: u64) -> Option<OwnedFd> {
    let pidfd = open(pid).ok()?;
    // The start time is that of the opened process, or of a later one with its pid, which started later.
    (start_time(pid) == Some(start)).then_some(pidfd)
}

/// When the process with this pid started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    proc::stat(pid).map(|stat| stat.start)
}

/// Duplicates a file that another process has open under this number, close-on-exec. `thread` is any of its threads;
/// the files of that thread are meant. It needs the right to trace the process: see [`super::super::tracer`], which
/// calls it.
///
/// # Errors
/// `EBADF` if no file is open under the number, `ESRCH` if the thread is gone, `EPERM` if the kernel does not allow it,
/// `ENOSYS` before Linux 5.6.
pub(crate) fn take_fd(thread: i32, number: RawFd) -> io::Result<OwnedFd> {
    let pidfd = open_thread(thread)?;
    Ok(pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
}

/// Opens a thread, which need not be the first of its process. On kernels before 6.9 it opens the process.
fn open_thread(thread: i32) -> io::Result<OwnedFd> {
    // `PIDFD_THREAD` of `linux/pidfd.h`.
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
    let pid = Pid::from_raw(thread).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_open(pid, flags) {
        Err(rustix::io::Errno::INVAL) => open(process_of(thread).ok_or(io::Error::from_raw_os_error(libc::ESRCH))?),
        result => Ok(result?),
    }
}

/// Pid of the process that a thread belongs to.
fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// True if the file that another process has open under this number is closed when it executes a program. `None` if no
/// file is open under the number.
#[must_use]
pub fn is_close_on_exec(thread: i32, number: RawFd) -> Option<bool> {
    let info = std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_CLOEXEC != 0)
}

/// Sends a signal. A process that has ended already is no error.
///
/// # Errors
/// `EPERM`; `InvalidInput` if there is no such signal.
pub fn signal(pidfd: impl AsFd, number: i32) -> io::Result<()> {
    let signal = tree::signal_from(number).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the end of the process, for at most `limit`; false if it has not ended by then. Blocks the thread.
pub fn ends_within(process: impl AsFd, limit: Duration) -> bool {
    let limit =
        Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Registers the pidfd with the runtime. It is readable once the process has ended, reaped or not.
///
/// # Errors
/// If the runtime cannot watch the pidfd.
pub fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the number of an OwnedFd never changes, and it is open until the AsyncFd drops it.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// How the process ended, also if another process reaped it. `None` while it lives or is a zombie, and before Linux
/// 6.15.
///
/// The call and its structure are those of the kernel's `include/uapi/linux/pidfd.h`: `PIDFD_GET_INFO` with
/// `PIDFD_INFO_EXIT`. The kernel returns that bit once `exit_code` holds the status that `wait` returns.
#[must_use]
pub fn exit_status(pidfd: impl AsFd) -> Option<Ended> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    let wanted = u64::from(libc::PIDFD_INFO_EXIT);
    info.mask = wanted;
    // SAFETY: the size of the structure is part of the number of the call.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & wanted != 0).then(|| Ended::from_status(info.exit_code))
}

/// Waits for the end of the process, and returns how it ended if the kernel knows. The kernel knows it once the parent
/// has reaped the process, so this waits up to 100 ms for that.
pub async fn ended(process: &AsyncFd<OwnedFd>) -> Option<Ended> {
    const ATTEMPTS: u32 = 20;
    // An error means that the process cannot be waited for. It counts as ended then.
    let _ = process.readable().await;
    for _ in 0..ATTEMPTS {
        if let Some(ended) = exit_status(process.get_ref()) {
            return Some(ended);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn start(line: &str) -> (Child, i32) {
        let child = Command::new("sh").args(["-c", line]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, pid)
    }

    /// False on kernels before 6.15, which do not know how a process ended once it is reaped.
    fn kernel_knows_exits() -> bool {
        let (mut child, pid) = start("exit 0");
        let pidfd = open(pid).unwrap();
        child.wait().unwrap();
        exit_status(&pidfd).is_some()
    }

    #[test]
    fn the_exit_status_is_known_after_another_process_reaped_it() {
        for (line, ended) in [("exit 3", Ended::Code(3)), ("kill -9 $$", Ended::Signal(9))] {
            // A grandchild: its parent reaps it, not this process.
            let (mut read, write) = std::io::pipe().unwrap();
            let script = format!("sh -c 'read go; {line}' <&3 & echo $! >&4; wait; exit 0");
            let (mut go_read, mut go) = std::io::pipe().unwrap();
            let mut parent = with_pipes(&script, &mut go_read, &write);
            drop(write);
            let pid: i32 = first_line(&mut read).parse().unwrap();
            let pidfd = open(pid).unwrap();
            assert_eq!(exit_status(&pidfd), None, "it lives");
            io::Write::write_all(&mut go, b"go\n").unwrap();
            assert!(parent.wait().unwrap().success());
            assert_eq!(exit_status(&pidfd), kernel_knows_exits().then_some(ended));
        }
    }

    fn with_pipes(script: &str, three: &mut io::PipeReader, four: &io::PipeWriter) -> Child {
        let line = format!("exec 3<&0 4>&1; {script}");
        Command::new("sh")
            .args(["-c", &line])
            .stdin(three.try_clone().unwrap())
            .stdout(four.try_clone().unwrap())
            .spawn()
            .unwrap()
    }

    fn first_line(from: &mut impl io::Read) -> String {
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(from), &mut line).unwrap();
        line.trim().to_owned()
    }

    #[tokio::test]
    async fn the_end_of_a_process_can_be_awaited() {
        let (mut child, pid) = start("exec sleep 60");
        let watched = watch(open(pid).unwrap()).unwrap();
        signal(watched.get_ref(), libc::SIGTERM).unwrap();
        let _ready = watched.readable().await.unwrap();
        // Not reaped yet: only its parent can get its exit status.
        assert_eq!(exit_status(watched.get_ref()), None);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(libc::SIGTERM));
    }

    #[test]
    fn a_file_is_taken_from_a_thread_that_is_not_the_first() {
        let (mut read, write) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            assert_ne!(own, i32::try_from(std::process::id()).unwrap());
            assert_eq!(process_of(own), i32::try_from(std::process::id()).ok());
            let taken = take_fd(own, write.as_raw_fd())?;
            assert_eq!(is_close_on_exec(own, write.as_raw_fd()), Some(true));
            crate::os::fs::files::inherit(&write, true)?;
            assert_eq!(is_close_on_exec(own, write.as_raw_fd()), Some(false));
            io::Write::write_all(&mut std::fs::File::from(taken), b"through it\n")?;
            io::Result::Ok(take_fd(own, 1_000_000).unwrap_err().raw_os_error())
        });
        match thread.join().unwrap() {
            Ok(missing) => assert_eq!((missing, first_line(&mut read).as_str()), (Some(libc::EBADF), "through it")),
            Err(error) => {
                use io::Write;
                let _ = writeln!(io::stderr(), "skipped: pidfd_getfd is not allowed here: {error}");
            }
        }
    }

    #[test]
    fn a_signal_to_an_ended_process_is_no_error_but_an_invalid_one_is() {
        let (mut child, pid) = start("exit 0");
        let pidfd = open(pid).unwrap();
        child.wait().unwrap();
        signal(&pidfd, 9).unwrap();
        assert!(signal(&pidfd, 0).is_err() && signal(&pidfd, 32).is_err());
        assert_eq!(open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_process_is_found_again_by_pid_and_start() {
        let (mut child, pid) = start("exec sleep 60");
        let start = start_time(pid).unwrap();
        assert!(reopen(pid, start + 1).is_none(), "a later process with its pid");
        signal(reopen(pid, start).unwrap(), 9).unwrap();
        child.wait().unwrap();
        assert!(reopen(pid, start).is_none() && start_time(pid).is_none());
    }

    /// The kernel lets root set which pid was used last.
    #[test]
    fn a_later_process_with_the_same_pid_gets_no_signal() {
        let last = std::path::Path::new("/proc/sys/kernel/ns_last_pid");
        let (mut old, pid) = start("exec sleep 60");
        let pidfd = open(pid).unwrap();
        old.kill().unwrap();
        old.wait().unwrap();
        for _ in 0..500 {
            if std::fs::write(last, (pid - 1).to_string()).is_err() {
                // Not root, or a read-only /proc: no pid is used again while the test runs.
                return;
            }
            let (mut new, new_pid) = start("exec sleep 60");
            let reused = new_pid == pid;
            if reused {
                signal(&pidfd, 9).unwrap();
                assert!(new.try_wait().unwrap().is_none(), "the new process got the signal");
                signal(open(new_pid).unwrap(), libc::SIGTERM).unwrap();
            } else {
                new.kill().unwrap();
            }
            let ended = std::os::unix::process::ExitStatusExt::signal(&new.wait().unwrap());
            if reused {
                assert_eq!(ended, Some(libc::SIGTERM), "only by the second signal");
                return;
            }
        }
        // Another process has the pid for as long as it lives.
        io::Write::write_all(&mut io::stderr(), b"skipped: the pid was not used again\n").unwrap();
    }
}
