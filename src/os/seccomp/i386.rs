//! How 32-bit programs on x86_64 processors make the intercepted calls.
//!
//! They use numbers of their own. On x86_64 these numbers stand for no call, or for one that never waits, so a waiting
//! call is identified by its number alone. Until Linux 4.3 `socketcall` was the only call for sockets, and the usual C
//! library still uses it. Sources: `arch/x86/entry/syscalls/syscall_32.tbl`, `linux/net.h`, `socketcall(2)`.

/// `socketcall(2)`. Its arguments are the number of the call and the address of its arguments.
pub(super) const SOCKETCALL: i64 = 102;
/// `bind(2)`.
pub(super) const BIND: i64 = 361;
/// `listen(2)`.
pub(super) const LISTEN: i64 = 363;

/// `socketcall`'s own number of `bind`.
pub(super) const SOCKETCALL_BIND: u32 = 2;
/// `socketcall`'s own number of `listen`.
pub(super) const SOCKETCALL_LISTEN: u32 = 4;

/// Length of an argument in memory, in bytes.
pub(super) const WORD: u32 = 4;

/// The argument with this index, as it would be in a register.
pub(super) fn argument(bytes: &[u8], number: usize) -> u64 {
    let word = bytes.chunks_exact(WORD as usize).nth(number).and_then(|word| word.try_into().ok());
    word.map_or(0, |word| u64::from(u32::from_ne_bytes(word)))
}
