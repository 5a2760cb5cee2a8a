//! Makes a process that shares this one's memory and has a stack of its own. The calling thread sleeps until the new
//! process has executed its program or ended.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::child;
use super::child::Plan;
use super::launch::Spawned;

/// Size of the child's stack, in bytes. The child calls a few shallow functions; the kernel has stacks of its own.
const STACK: usize = 64 * 1024;
/// Bytes below the stack that cannot be accessed, so that an overflow is a fault.
const GUARD: usize = 16 * 1024;

/// The system call that makes the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The first choice. Container profiles may forbid it.
    Clone3,
    /// The older call. It cannot make a child in a cgroup.
    Clone,
}

/// Makes the process and waits until it has executed the program or failed. The plan then has the step that failed, if
/// one did.
pub(super) fn clone(way: Way, plan: &mut Plan, sibling: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let stack = Stack::new()?;
    // No signal handler of the daemon may run in the child.
    let _blocked = Blocked::all();
    let birth = Birth { stack: &stack, sibling, plan };
    match way {
        Way::Clone3 => birth.clone3(cgroup),
        Way::Clone => birth.clone(cgroup),
    }
}

/// True if [`Way::Clone`] may work after this error of `clone3`. Security profiles that do not know `clone3` answer
/// with `ENOSYS` or `EPERM`; kernels before 5.7, which cannot make a child in a cgroup, with `E2BIG` or `EINVAL`.
pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::E2BIG | libc::EINVAL))
}

struct Birth<'a> {
    stack: &'a Stack,
    sibling: bool,
    plan: *mut Plan,
}

impl Birth<'_> {
    /// The signal to the parent at the child's end. For a sibling the kernel uses that of this process.
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
        // SAFETY: stack and plan belong to the child until it has replaced its memory or ended: this thread, which owns
        // them, sleeps until then.
        let result = unsafe { clone3(&arguments, child::enter, self.plan.cast()) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL)));
        }
        made(i32::try_from(result).expect("pids fit"), pidfd)
    }

    fn clone(&self, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
        let mut pidfd: c_int = -1;
        let flags = self.flags() | self.exit_signal();
        // SAFETY: the child that uses the plan does not exist yet.
        unsafe { (*self.plan).cgroup = cgroup.map(|folder| folder.as_raw_fd()) };
        // SAFETY: as with `clone3`. With CLONE_PIDFD the kernel writes the descriptor to the place of the parent's pid.
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
        // Kernels before 5.2 ignore the flag.
        return Ok(Spawned { pid, pidfd: crate::os::process::pidfd::open(pid)? });
    }
    // SAFETY: the kernel has just opened it, and it has no other owner.
    Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Memory for a stack, unmapped on drop.
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
        // SAFETY: the part of the new mapping above the guard.
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
        // SAFETY: mapped in `new` with this size; the child that used it has replaced its memory or ended.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// Blocks all signals of this thread until it is dropped. Uses the plain system call, since the C library leaves out
/// some signals.
struct Blocked {
    before: u64,
}

impl Blocked {
    fn all() -> Blocked {
        let (all, mut before) = (u64::MAX, 0_u64);
        // SAFETY: the kernel reads and writes eight bytes, the size that is passed.
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

/// From `linux/sched.h`. The constant of the `libc` crate has a type that is too small.
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

/// Returns a pid, or a negative error number. The child calls `entry` on its own stack.
///
/// # Safety
/// The stack and the value behind `data` belong to the child until it has executed a program or ended, and `entry` does
/// not return.
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

/// The same on this architecture.
///
/// # Safety
/// That of the function for x86-64.
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

/// On other processors only the older call is used.
///
/// # Safety
/// None is needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &Arguments, _: Entry, _: *mut c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}
