//! The balancer in classic BPF, for which everybody has the right: any of the sockets in rotation, by chance.
//!
//! It names a socket by its index in the kernel's own list, so we keep a copy of that list (see [`super::Group`]). An
//! index beyond the list leaves the choice to the kernel's hash.

use std::io;
use std::os::fd::AsFd;

use libc::sock_filter;

use super::{Spread, set_option};

/// `SO_ATTACH_REUSEPORT_CBPF` and `SO_DETACH_REUSEPORT_BPF` of `asm-generic/socket.h`.
const ATTACH: libc::c_int = 51;
const DETACH: libc::c_int = 68;
/// The longest program, `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// Has the group that this socket belongs to choose among these indices.
pub(super) fn attach(member: impl AsFd, spread: Spread, ipv6: bool, indices: &[u32]) -> io::Result<()> {
    let mut lines = program(spread, ipv6, indices);
    if lines.len() > LONGEST {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let length = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    set_option(member, ATTACH, &libc::sock_fprog { len: length, filter: lines.as_mut_ptr() })
}

/// Leaves the choice to the kernel's hash again.
pub(super) fn detach(member: impl AsFd) -> io::Result<()> {
    set_option(member, DETACH, &0)
}

fn program(spread: Spread, ipv6: bool, indices: &[u32]) -> Vec<sock_filter> {
    let count = u32::try_from(indices.len()).unwrap_or(0).max(1);
    let mut lines = match spread {
        Spread::Connections => vec![load(offset(libc::SKF_AD_OFF, libc::SKF_AD_RANDOM))],
        Spread::Clients => client(ipv6),
    };
    lines.push(line(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, count));
    if indices.iter().zip(0..).all(|(index, number)| *index == number) {
        lines.push(line(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
        return lines;
    }
    for (number, index) in (0..).zip(indices) {
        lines.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number));
        lines.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, *index));
    }
    lines.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
    lines
}

/// A number that is the same for all packets of a client's socket: from the lower part of its address and the ports,
/// which lie at fixed places in the headers unless those have options.
fn client(ipv6: bool) -> Vec<sock_filter> {
    let (address, ports) = if ipv6 { (20, 40) } else { (12, 20) };
    vec![
        load(offset(libc::SKF_NET_OFF, address)),
        line(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        load(offset(libc::SKF_NET_OFF, ports)),
        line(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0, 0, 0),
        // Fibonacci hashing: neighbouring ports end up far from each other in the upper bits.
        line(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, 0, 0, 0x9E37_79B1),
        line(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 0, 16),
    ]
}

fn offset(area: libc::c_int, at: libc::c_int) -> u32 {
    (area + at).cast_unsigned()
}

fn load(offset: u32) -> sock_filter {
    line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn line(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}
