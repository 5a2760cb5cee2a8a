//! How programs of 32 bits make the calls we are told of, on x86_64 processors.
//!
//! They have numbers of their own, which on x86_64 are those of no call, or of one that never waits: so a call that
//! waits is known by its number alone. Until Linux 4.3 all calls about sockets were one, `socketcall`, and the usual C
//! library still makes them so. Sources: `arch/x86/entry/syscalls/syscall_32.tbl`, `linux/net.h`, `socketcall(2)`.

/// `socketcall(2)`: which call, and where its arguments lie.
pub(super) const SOCKETCALL: i64 = 102;
/// `bind(2)`.
pub(super) const BIND: i64 = 361;
/// `listen(2)`.
pub(super) const LISTEN: i64 = 363;

/// `socketcall`'s own number of `bind`.
pub(super) const SOCKETCALL_BIND: u32 = 2;
/// `socketcall`'s own number of `listen`.
pub(super) const SOCKETCALL_LISTEN: u32 = 4;

/// How many bytes an argument takes.
pub(super) const WORD: u32 = 4;

/// The argument of this number among those that lie there, as if it had been given without a detour.
pub(super) fn argument(bytes: &[u8], number: usize) -> u64 {
    let word = bytes.chunks_exact(WORD as usize).nth(number).and_then(|word| word.try_into().ok());
    word.map_or(0, |word| u64::from(u32::from_ne_bytes(word)))
}
