//! The filter, and how the child installs it before it executes its program.
//!
//! The kernel runs the filter for every system call of the program (about 40 ns). So it is as short as possible, and
//! reports only two calls: `listen`, and `bind` with an address that is long enough for IP. Programs pass IP addresses
//! with any length from that of IPv4 to that of `sockaddr_storage`, for example the size of a union. The address of
//! netlink has 12 bytes, so a name lookup, which binds such a socket, is not reported.
//!
//! 32-bit programs make the same calls by other numbers. Most make them through `socketcall`, whose arguments are in
//! memory, where a filter cannot read the length: all their binds are reported. That holds for i386. x32 calls, and
//! 32-bit calls on other processors, are not reported, and their sockets are not shared.

use std::io;

use libc::sock_filter;

use super::i386;

/// `AUDIT_ARCH_*` of `linux/audit.h`: the instruction set of a call.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
/// On other processors the numbers of the calls are not known here. No instruction set has this number.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: u32 = 0;

/// The 32-bit instruction set that is also known: i386.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE_32: u32 = 0x4000_0003;
#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURE_32: u32 = 0;

/// Offsets in `struct seccomp_data`, the input of the filter.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The first argument's lower half: the number of the call in a `socketcall`.
const FIRST: u32 = 16;
/// The third argument's lower half, which is all that the kernel reads of a length.
const LENGTH: u32 = 16 + 2 * 8;

/// `struct sockaddr_in`.
const SHORTEST: u32 = 16;
/// Length of `struct sockaddr_storage`. The kernel refuses longer addresses itself.
const LONGEST: u32 = 128;

const fn load(offset: u32) -> sock_filter {
    line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Skips `yes` lines if the loaded value is `value`, else `no`.
const fn is(value: u32, yes: u8, no: u8) -> sock_filter {
    line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

/// Skips `yes` lines if the loaded value is `value` or greater, else `no`.
const fn is_from(value: u32, yes: u8, no: u8) -> sock_filter {
    line(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value)
}

const fn end(verdict: u32) -> sock_filter {
    line(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

const fn line(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const fn program() -> [sock_filter; 18] {
    [
        load(ARCH),
        is(ARCHITECTURE, 0, 3),
        load(NUMBER),
        is(libc::SYS_listen as u32, 13, 0),
        is(libc::SYS_bind as u32, 8, 11),
        is(ARCHITECTURE_32, 0, 10),
        load(NUMBER),
        is(i386::SOCKETCALL as u32, 2, 0),
        is(i386::LISTEN as u32, 8, 0),
        is(i386::BIND as u32, 3, 6),
        load(FIRST),
        is(i386::SOCKETCALL_LISTEN, 5, 0),
        is(i386::SOCKETCALL_BIND, 4, 3),
        load(LENGTH),
        is_from(SHORTEST, 0, 1),
        is_from(LONGEST + 1, 0, 1),
        end(libc::SECCOMP_RET_ALLOW),
        end(libc::SECCOMP_RET_USER_NOTIF),
    ]
}

/// Puts this process and all its descendants under the filter, for good. Returns the descriptor on which calls are
/// reported, close-on-exec. Allocates and locks nothing.
///
/// A process without `CAP_SYS_ADMIN` gives up new privileges by it: `sudo` does not work in it and its descendants.
///
/// # Errors
/// `EBUSY` if another supervisor watches this process in this way already; `ENOSYS` on other processors and old
/// kernels; `EPERM` if a container forbids it.
pub(crate) fn install() -> io::Result<i32> {
    if ARCHITECTURE == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // Then only a fatal signal interrupts a call that was received (since Linux 5.19). Otherwise the program would make
    // the call twice.
    let best = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut flags = best;
    let mut given_up = false;
    loop {
        let error = match attempt(flags) {
            Ok(watch) => return Ok(watch),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) if flags == best => flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            Some(libc::EACCES) if !given_up => {
                // SAFETY: the call takes numbers only.
                if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                given_up = true;
            }
            _ => return Err(error),
        }
    }
}

fn attempt(flags: libc::c_ulong) -> io::Result<i32> {
    let mut lines = program();
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose length is in `len`.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does.
    fn verdict(arch: u32, number: i64, first: u64, length: u64) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = match k {
                        NUMBER => number as u32,
                        ARCH => arch,
                        FIRST => first as u32,
                        LENGTH => length as u32,
                        other => panic!("offset {other}"),
                    };
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    at += usize::from(if loaded == k { jt } else { jf });
                }
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => {
                    at += usize::from(if loaded >= k { jt } else { jf });
                }
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                other => panic!("code {other}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

    #[test]
    fn only_listen_and_binds_with_the_length_of_an_ip_address_are_reported() {
        for length in [16, 24, 28, 112, 128, 0xFFFF_FFFF_0000_0010] {
            assert_eq!(verdict(ARCHITECTURE, libc::SYS_bind, 3, length), NOTIFY, "{length}");
        }
        for length in [0, 12, 15, 129, 0xFFFF_FFFF] {
            assert_eq!(verdict(ARCHITECTURE, libc::SYS_bind, 3, length), ALLOW, "{length}");
        }
        assert_eq!(verdict(ARCHITECTURE, libc::SYS_listen, 3, 12), NOTIFY);
        for number in [libc::SYS_read, libc::SYS_accept4, libc::SYS_connect, libc::SYS_bind | 0x4000_0000] {
            assert_eq!(verdict(ARCHITECTURE, number, 3, 16), ALLOW, "{number}");
        }
        assert_eq!(verdict(ARCHITECTURE, i386::SOCKETCALL, 2, 16), ALLOW, "the number of another call");
        assert_eq!(verdict(0x7777_7777, libc::SYS_bind, 3, 16), ALLOW, "another processor's");
    }

    #[test]
    fn calls_of_32_bit_programs_are_reported_by_their_own_numbers() {
        let is_reported = |number, first, length| verdict(0x4000_0003, number, first, length) == NOTIFY;
        let here = cfg!(target_arch = "x86_64");
        assert_eq!(is_reported(i386::BIND, 3, 16), here);
        assert_eq!(is_reported(i386::LISTEN, 3, 12), here);
        for (call, wanted) in [(1, false), (2, here), (3, false), (4, here), (5, false)] {
            assert_eq!(is_reported(i386::SOCKETCALL, call, 0), wanted, "{call}");
        }
        assert!(!is_reported(i386::BIND, 3, 12));
        assert!(!is_reported(libc::SYS_bind, 3, 16));
    }
}
