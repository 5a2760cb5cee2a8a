//! What the child does from its start to the execution of the program. It runs in the daemon's memory, on a stack of
//! its own, while the thread that made it sleeps and other threads go on. So nothing here allocates, locks or panics.
//! User and groups are set by plain system calls: the C library's functions would also set them for the daemon's
//! threads.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::isolate;
use super::isolate::Isolation;
use super::launch::{Rlimit, Step};
use super::syscall::{check, errno, failed};
use crate::os::process::credentials::Credentials;
use crate::os::seccomp;

/// All that the child needs, prepared by the parent.
pub(super) struct Plan {
    pub(super) program: CString,
    pub(super) argv: Strings,
    pub(super) env: Strings,
    /// The last variable is to hold the child's pid, from this byte on. It has room for the longest pid.
    pub(super) pid_slot: Option<usize>,
    pub(super) cwd: CString,
    /// The files that are to be descriptor 0, 1, 2 and so on.
    pub(super) fds: Vec<i32>,
    /// Folder of a cgroup (v2) to join, if the child could not be made in it.
    pub(super) cgroup: Option<i32>,
    pub(super) cgroup_procs: Vec<i32>,
    /// The socket into which the child sends its bind watch. Its number is higher than those of the program's
    /// descriptors.
    pub(super) watch_binds: Option<OwnedFd>,
    pub(super) rlimits: Vec<Rlimit>,
    pub(super) credentials: Option<Credentials>,
    pub(super) no_new_privs: bool,
    pub(super) isolation: Option<Isolation>,
    /// Pidfd of a process whose mount namespace it shares.
    pub(super) view_of: Option<i32>,
    /// Pid of the parent that it is not to outlive.
    pub(super) dies_with: Option<i32>,
    /// Written by the child: the step that failed, and its `errno`.
    pub(super) failure: Option<(Step, i32)>,
}

/// Strings as `execve` wants them: an array of pointers that ends in null.
pub(super) struct Strings {
    owned: Vec<Vec<u8>>,
    pointers: Vec<*mut u8>,
}

impl Strings {
    /// Each string ends in a zero byte.
    pub(super) fn new(mut owned: Vec<Vec<u8>>) -> Strings {
        let pointers = owned.iter_mut().map(Vec::as_mut_ptr).chain([std::ptr::null_mut()]).collect();
        Strings { owned, pointers }
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr().cast()
    }
}

/// Executes the program, or writes into the plan which step failed and ends.
///
/// # Safety
/// To be called in a new process, with a plan that no other thread touches until this process has executed the program
/// or ended.
pub(super) unsafe extern "C" fn enter(plan: *mut libc::c_void) -> i32 {
    // SAFETY: the caller's promise.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let step = prepare(plan).err().unwrap_or_else(|| execute(plan));
    plan.failure = Some((step, errno()));
    // SAFETY: ends this process at once, without running exit handlers.
    unsafe { libc::_exit(127) }
}

fn prepare(plan: &mut Plan) -> Result<(), Step> {
    default_signals();
    // SAFETY: no pointers.
    check(unsafe { libc::setsid() }, Step::Session)?;
    join_cgroups(plan)?;
    if let Some(isolation) = &plan.isolation {
        isolation.enter()?;
    }
    if let Some(process) = plan.view_of {
        isolate::share_view(process)?;
    }
    place_descriptors(&mut plan.fds)?;
    // Before limits and user change: this needs the daemon's privileges.
    if let Some(socket) = &plan.watch_binds {
        seccomp::install_and_leave(socket.as_fd()).map_err(|error| failed(&error, Step::WatchBinds))?;
    }
    for limit in &plan.rlimits {
        set_limit(limit)?;
    }
    // SAFETY: the path ends in a zero byte and outlives the call.
    check(unsafe { libc::chdir(plan.cwd.as_ptr()) }, Step::Folder)?;
    if let Some(credentials) = &plan.credentials {
        set_credentials(credentials)?;
    }
    if plan.no_new_privs {
        // SAFETY: the call takes numbers only.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, Step::NoNewPrivs)?;
    }
    if let Some(parent) = plan.dies_with {
        die_with(parent)?;
    }
    write_pid(plan);
    unblock_signals();
    Ok(())
}

/// Has the kernel kill this process when its parent ends. To be done after the change of user, which would undo it.
fn die_with(parent: i32) -> Result<(), Step> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }, Step::DeathSignal)?;
    // SAFETY: no pointers. The parent may have died before the request; then no signal comes.
    if unsafe { libc::getppid() } == parent { Ok(()) } else { Err(Step::DeathSignal) }
}

fn execute(plan: &Plan) -> Step {
    // SAFETY: all strings end in a zero byte, both arrays in null, and all outlive the call.
    unsafe { libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.env.as_ptr()) };
    Step::Execute
}

/// A signal that the daemon ignores would stay ignored in the program. All signals are blocked here, so none of the
/// daemon's handlers can have run.
fn default_signals() {
    // The kernel's `struct sigaction` is four words at most, and SIG_DFL, no flags and an empty mask are all zero.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: the kernel reads the structure, which is large enough. It refuses SIGKILL and SIGSTOP, which is
        // right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
}

fn unblock_signals() {
    let none = 0_u64;
    // SAFETY: the kernel reads eight bytes, the size that is passed.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, std::ptr::null::<u64>(), 8) };
}

fn join_cgroups(plan: &Plan) -> Result<(), Step> {
    if let Some(folder) = plan.cgroup {
        // SAFETY: the name ends in a zero byte.
        let procs = unsafe { libc::openat(folder, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        check(procs, Step::Cgroup)?;
        join(procs)?;
    }
    plan.cgroup_procs.iter().try_for_each(|procs| join(*procs))
}

/// Writes `0`, which stands for the writing process.
fn join(procs: i32) -> Result<(), Step> {
    // SAFETY: one byte is read from a constant.
    check(unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) } as i64, Step::Cgroup)
}

/// Puts the files under their numbers. A file whose present number is the target of another one is moved first.
fn place_descriptors(fds: &mut [i32]) -> Result<(), Step> {
    let count = i32::try_from(fds.len()).unwrap_or(i32::MAX);
    for (number, fd) in (0..).zip(fds.iter_mut()) {
        if *fd < count && *fd != number {
            // SAFETY: no pointers, and descriptors of this process only.
            *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, count) };
            check(*fd, Step::Descriptors)?;
        }
    }
    for (number, fd) in (0..).zip(fds.iter()) {
        // SAFETY: as above. `dup3` refuses equal numbers; then only the close-on-exec flag is cleared.
        let result =
            unsafe { if *fd == number { libc::fcntl(*fd, libc::F_SETFD, 0) } else { libc::dup3(*fd, number, 0) } };
        check(result, Step::Descriptors)?;
    }
    // pmr's own files are close-on-exec anyway; this is for files that libraries open. Kernels before 5.11 do not know
    // the flag, and then these files stay open.
    // SAFETY: no pointers; nothing is closed yet.
    unsafe { libc::syscall(libc::SYS_close_range, count, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

fn set_limit(limit: &Rlimit) -> Result<(), Step> {
    let new = [limit.soft, limit.hard];
    // SAFETY: the kernel reads its structure, which is these two numbers, and writes none.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, limit.resource as u32, new.as_ptr(), std::ptr::null_mut::<u64>())
    };
    check(result as i64, Step::Limit(limit.resource))
}

// The plain names mean 16-bit ids on the oldest architectures.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID};

/// The user last: without privileges the groups could not be changed any more.
fn set_credentials(Credentials { uid, gid, groups }: &Credentials) -> Result<(), Step> {
    // SAFETY: the kernel reads as many groups as there are.
    check(unsafe { libc::syscall(SETGROUPS, groups.len(), groups.as_ptr()) } as i64, Step::Groups)?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(SETRESGID, *gid, *gid, *gid) } as i64, Step::Group)?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(SETRESUID, *uid, *uid, *uid) } as i64, Step::User)
}

/// Changes user and groups of this process, which must have one thread.
///
/// # Errors
/// `EPERM` without privileges.
pub(crate) fn become_user(credentials: &Credentials) -> io::Result<()> {
    set_credentials(credentials).map_err(|_| io::Error::last_os_error())
}

/// Writes the child's pid in decimal over the digits in the last variable.
fn write_pid(plan: &mut Plan) {
    let (Some(at), Some(entry)) = (plan.pid_slot, plan.env.owned.last_mut()) else { return };
    // SAFETY: no pointers.
    let mut pid = unsafe { libc::getpid() }.unsigned_abs();
    let (mut digits, mut count) = ([0_u8; 10], 0);
    while pid > 0 && count < digits.len() {
        digits[count] = b'0' + (pid % 10) as u8;
        pid /= 10;
        count += 1;
    }
    let text = digits.iter().take(count).rev().chain([&0]);
    entry.iter_mut().skip(at).zip(text).for_each(|(byte, digit)| *byte = *digit);
}
