//! Starting a program in a session of its own, with named descriptors and no others.
//!
//! The child is made by `clone3` and shares this process's memory, with a stack of its own, as in `posix_spawn`. So a
//! start takes no longer in a large daemon than in a small one. `child` prepares the process until it executes the
//! program; meanwhile the calling thread sleeps. Then the shared memory says which step failed, if one did.

mod child;
mod clone;
mod isolate;
mod launch;
mod syscall;
#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use child::Plan;
pub(crate) use child::become_user;
use clone::Way;
pub use launch::{Confinement, Failure, Launch, Resource, Rlimit, Spawned, Step};
use syscall::c_string;

/// Starts a program. It has every signal at its default and unblocked, and no open descriptors but [`Launch::fds`].
///
/// To be called on the thread that reaps children.
///
/// # Errors
/// Names the step that failed. The child that was to become the program has been reaped, unless it was a sibling.
pub fn spawn(launch: &Launch<'_>) -> Result<Spawned, Failure> {
    let mut plan = plan(launch).map_err(|error| Failure::new(launch, Step::Arguments, error))?;
    match run(launch, &mut plan, Way::Clone3) {
        Err(failure) if failure.step == Step::Clone && clone::is_forbidden(&failure.error) => {
            run(launch, &mut plan, Way::Clone)
        }
        result => result,
    }
}

fn run(launch: &Launch<'_>, plan: &mut Plan, way: Way) -> Result<Spawned, Failure> {
    let dumpable = Dumpable::read();
    let made = clone::clone(way, plan, launch.sibling, launch.confinement.cgroup);
    drop(dumpable);
    let spawned = made.map_err(|error| Failure::new(launch, Step::Clone, error))?;
    match plan.failure {
        None => Ok(spawned),
        Some((step, errno)) => {
            if !launch.sibling {
                super::reap::reap(spawned.pid);
            }
            Err(Failure::new(launch, step, io::Error::from_raw_os_error(errno)))
        }
    }
}

fn plan(launch: &Launch<'_>) -> io::Result<Plan> {
    let entry = |text: &String| c_string(OsStr::new(text)).map(CString::into_bytes_with_nul);
    let mut env = launch.env.iter().map(entry).collect::<io::Result<Vec<_>>>()?;
    if let Some(name) = launch.pid_slot {
        env.push(c_string(OsStr::new(&format!("{name}={}", i32::MAX)))?.into_bytes_with_nul());
    }
    // Above the numbers that the program's own descriptors get.
    let lowest = i32::try_from(launch.fds.len()).unwrap_or(i32::MAX);
    let aside = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, lowest);
    let raw = |fds: &[BorrowedFd<'_>]| fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<i32>>();
    Ok(Plan {
        program: c_string(launch.program.as_os_str())?,
        argv: child::Strings::new(
            launch.argv.iter().map(|arg| Ok(c_string(arg)?.into_bytes_with_nul())).collect::<io::Result<_>>()?,
        ),
        env: child::Strings::new(env),
        pid_slot: launch.pid_slot.map(|name| name.len() + 1),
        cwd: c_string(launch.cwd.as_os_str())?,
        fds: raw(launch.fds),
        cgroup: None,
        cgroup_procs: raw(launch.confinement.cgroup_procs),
        watch_binds: launch.confinement.watch_binds.map(aside).transpose()?,
        rlimits: launch.confinement.rlimits.to_vec(),
        credentials: launch.confinement.credentials.cloned(),
        no_new_privs: launch.confinement.no_new_privs,
        isolation: isolate::Isolation::new(launch.confinement.read_only, launch.confinement.private_tmp)?,
        view_of: launch.confinement.view_of.map(|process| process.as_raw_fd()),
        dies_with: launch.confinement.dies_with_us.then(super::identity::pid),
        failure: None,
    })
}

/// Whether other processes may trace this one, and so read its memory and open files. When the child, which shares this
/// process's memory, changes its user, the kernel clears that flag for both. Dropping this value sets it again.
struct Dumpable(i32);

impl Dumpable {
    fn read() -> Dumpable {
        // SAFETY: the call takes numbers only.
        Dumpable(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) })
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.0 == 1 {
            // SAFETY: the call takes numbers only.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
    }
}

/// A pipe for a child's output. The read end, for this process, is non-blocking; the write end, for the child, blocks.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}
