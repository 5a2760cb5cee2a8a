//! Making a process that shares our memory and has a stack of its own, while this thread sleeps until it has executed
//! its program or ended.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::child;
use super::child::Plan;
use super::launch::Spawned;

/// The child's stack. It calls a few shallow functions; the kernel has stacks of its own.
const STACK: usize = 64 * 1024;
/// Below it, a stretch that cannot be touched.
const GUARD: usize = 16 * 1024;

/// The system call a process is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The first choice. Containers may forbid it.
    Clone3,
    /// The older call: it cannot let a child be born in a cgroup.
    Clone,
}

/// Makes the process and waits until it has gone its way. Whether it arrived is in the plan.
pub(super) fn clone(way: Way, plan: &mut Plan, sibling: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let stack = Stack::new()?;
    // A handler of ours must not run in the child, nor in us while it is half made.
    let _blocked = Blocked::all();
    let birth = Birth { stack: &stack, sibling, plan };
    match way {
        Way::Clone3 => birth.clone3(cgroup),
        Way::Clone => birth.clone(cgroup),
    }
}

/// True if the other way may still be open. Security profiles that do not know `clone3` answer with either of the first
/// two; kernels before 5.7, which cannot let a child be born in a cgroup, with either of the last.
pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::E2BIG | libc::EINVAL))
}

struct Birth<'a> {
    stack: &'a Stack,
    sibling: bool,
    plan: *mut Plan,
}

impl Birth<'_> {
    /// Who is told of the child's end: with a sibling that is settled by whoever made us.
    fn exit_signal(&self) -> c_int {
        if self.sibling { 0 } else { libc::SIGCHLD }
    }

    fn flags(&self) -> c_int {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
        if self.sibling { flags | libc::CLONE_PARENT } else { flags }
    }

    fn clone3(&self, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
        let mut pidfd: c_int = -1;
        let mut arguments = Arguments {
            flags: u64::try_from(self.flags()).expect("the flags are a positive number"),
            pidfd: (&raw mut pidfd) as u64,
            exit_signal: u64::try_from(self.exit_signal()).expect("signals are positive"),
            stack: self.stack.bottom() as u64,
            stack_size: STACK as u64,
            ..Arguments::default()
        };
        if let Some(folder) = cgroup {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = u64::try_from(folder.as_raw_fd()).expect("descriptors are not negative");
        }
        // SAFETY: the stack is the child's alone and outlives it, or it has replaced its memory; so does the plan,
        // which nobody else touches: this thread sleeps.
        let result = unsafe { clone3(&arguments, child::enter, self.plan.cast()) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL)));
        }
        made(i32::try_from(result).expect("pids fit"), pidfd)
    }

    fn clone(&self, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
        let mut pidfd: c_int = -1;
        let flags = self.flags() | self.exit_signal();
        // SAFETY: the plan is ours; the child that uses it does not exist yet.
        unsafe { (*self.plan).cgroup = cgroup.map(|folder| folder.as_raw_fd()) };
        // SAFETY: as with `clone3`; with CLONE_PIDFD, the descriptor comes where the parent's copy of the pid would.
        let pid = unsafe { libc::clone(enter, self.stack.top(), flags, self.plan.cast(), &raw mut pidfd) };
        if pid < 0 { Err(io::Error::last_os_error()) } else { made(pid, pidfd) }
    }
}

extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: called in a new process only, with the plan made for it.
    unsafe { child::enter(plan) }
}

fn made(pid: i32, pidfd: c_int) -> io::Result<Spawned> {
    if pidfd < 0 {
        // Before Linux 5.2 the flag meant nothing.
        return Ok(Spawned { pid, pidfd: crate::os::process::pidfd::open(pid)? });
    }
    // SAFETY: the kernel made it for us just now.
    Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Memory for a stack.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: new memory, anywhere.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack(base);
        // SAFETY: the part above the guard, all of it ours.
        let opened = unsafe { libc::mprotect(stack.bottom(), STACK, libc::PROT_READ | libc::PROT_WRITE) };
        if opened == 0 { Ok(stack) } else { Err(io::Error::last_os_error()) }
    }

    fn bottom(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD)
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size, and nobody stands on it any more.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// While it lives, this thread gets no signal. By the plain system call, since the C library spares some signals.
struct Blocked {
    before: u64,
}

impl Blocked {
    fn all() -> Blocked {
        let (all, mut before) = (u64::MAX, 0_u64);
        // SAFETY: the kernel reads and writes the eight bytes it is told of.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, &raw mut before, 8) };
        Blocked { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<u64>();
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const self.before, nothing, 8) };
    }
}

/// From `linux/sched.h`, which the `libc` crate has as a number too small to hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `linux/sched.h`.
#[repr(C, align(8))]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

type Entry = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Returns what the kernel does: a pid, or an error's number below zero. The child calls `entry` on its own stack.
///
/// # Safety
/// The stack and whatever `data` points to belong to the child until it has executed a program or ended, and `entry`
/// does not return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(arguments: &Arguments, entry: Entry, data: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: `syscall` overwrites rax, rcx and r11 alone. In the child, rsp is the top of the new stack, aligned as a
    // call wants it, and the code after label 2 is never reached.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<Arguments>(),
            in("r8") data,
            in("r9") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(arguments: &Arguments, entry: Entry, data: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: `svc` overwrites x0 alone. In the child, sp is the top of the new stack, and the code after label 2 is
    // never reached.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x9",
            "blr x10",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inout("x0") std::ptr::from_ref(arguments) => result,
            in("x1") size_of::<Arguments>(),
            in("x9") data,
            in("x10") entry,
        );
    }
    result
}

/// Elsewhere the older call has to do.
///
/// # Safety
/// None is needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &Arguments, _: Entry, _: *mut c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}
