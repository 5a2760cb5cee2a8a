//! The balancer in classic BPF, which needs no privileges: any of the sockets in rotation, at random, or by the
//! client's address.
//!
//! It chooses a socket by its index in the kernel's list, so the daemon keeps a copy of that list (see
//! [`super::group::Group`]). For an index beyond the list the kernel's hash chooses.

use std::io;
use std::os::fd::AsFd;

use libc::sock_filter;

use super::deal::{Deal, Spread};
use super::rendezvous::{FOLD, MAPPED, MIX};
use super::shared::set_option;

/// `SO_ATTACH_REUSEPORT_CBPF` and `SO_DETACH_REUSEPORT_BPF` of `asm-generic/socket.h`.
const ATTACH: libc::c_int = 51;
const DETACH: libc::c_int = 68;
/// The longest program, `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// The input of the program.
pub(super) struct Choice<'a> {
    pub(super) spread: Spread,
    /// The sockets are of IPv6, and may accept IPv4, too.
    pub(super) ipv6: bool,
    /// Routes: from a source port to an index, for connections whose source and destination address are the same.
    pub(super) routes: &'a [(u16, u32)],
    /// The indices among which the other connections are dealt.
    pub(super) indices: &'a [u32],
}

/// Attaches the program for this choice to the group of this socket.
pub(super) fn attach(member: impl AsFd, choice: &Choice<'_>) -> io::Result<()> {
    let mut lines = program(choice);
    if lines.len() > LONGEST {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let length = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    set_option(member, ATTACH, &libc::sock_fprog { len: length, filter: lines.as_mut_ptr() })
}

/// Detaches the program, so that the kernel's hash chooses again.
pub(super) fn detach(member: impl AsFd) -> io::Result<()> {
    set_option(member, DETACH, &0)
}

fn program(choice: &Choice<'_>) -> Vec<sock_filter> {
    let Choice { spread, ipv6, routes, indices } = *choice;
    let count = u32::try_from(indices.len()).unwrap_or(0).max(1);
    let mut lines = follow(ipv6, routes);
    match spread {
        Spread::Connections(Deal::Each) => lines.push(load(offset(libc::SKF_AD_OFF, libc::SKF_AD_RANDOM))),
        Spread::Datagrams(Deal::Each) => lines.extend(client(ipv6)),
        Spread::Connections(Deal::ByAddress) | Spread::Datagrams(Deal::ByAddress) => lines.extend(address(ipv6)),
    }
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

/// Offsets in a header: source and destination address, source port; and the length of an address in words.
struct Layout {
    source: i32,
    destination: i32,
    words: i32,
    port: i32,
}

/// Headers without options, which the daemon's own packets have.
const VERSION4: Layout = Layout { source: 12, destination: 16, words: 1, port: 20 };
const VERSION6: Layout = Layout { source: 8, destination: 24, words: 4, port: 40 };
/// Placeholder for the distance of a jump to the end of these lines, until that is known.
const ONWARD: u8 = u8::MAX;

/// Returns the index for a connection that has a route; goes on for all others.
fn follow(ipv6: bool, routes: &[(u16, u32)]) -> Vec<sock_filter> {
    if routes.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let of_version4 = own_port(&VERSION4);
    if ipv6 {
        lines.extend(by_version(own_port(&VERSION6), of_version4));
    } else {
        lines.extend(of_version4);
    }
    for (port, index) in routes {
        lines.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, (*port).into()));
        lines.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, *index));
    }
    let end = lines.len();
    for (at, line) in lines.iter_mut().enumerate().filter(|(_, line)| line.jf == ONWARD) {
        // A jump counts from the instruction after it.
        line.jf = u8::try_from(end - at - 1).unwrap_or(u8::MAX);
    }
    lines
}

/// Runs the first lines for packets of IPv6, and the second for those of IPv4.
fn by_version(mut of_version6: Vec<sock_filter>, of_version4: Vec<sock_filter>) -> Vec<sock_filter> {
    of_version6.push(line(libc::BPF_JMP | libc::BPF_JA, 0, 0, length(&of_version4).into()));
    let mut lines = vec![
        load_of(libc::BPF_B, offset(libc::SKF_NET_OFF, 0)),
        line(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 0, 4),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, length(&of_version6), 6),
    ];
    lines.extend(of_version6);
    lines.extend(of_version4);
    lines
}

/// Loads the source port if both addresses are the same; else jumps onward.
fn own_port(layout: &Layout) -> Vec<sock_filter> {
    let word = |at: i32, number: i32| load(offset(libc::SKF_NET_OFF, at + 4 * number));
    let compare = |number: i32| {
        [
            word(layout.source, number),
            line(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            word(layout.destination, number),
            line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, ONWARD, 0),
        ]
    };
    let mut lines: Vec<_> = (0..layout.words).flat_map(compare).collect();
    lines.push(load_of(libc::BPF_H, offset(libc::SKF_NET_OFF, layout.port)));
    lines
}

fn length(lines: &[sock_filter]) -> u8 {
    u8::try_from(lines.len()).unwrap_or(u8::MAX)
}

/// A number that is the same for all packets of a client's socket. It is computed from the lower part of its address
/// and the ports, which are at fixed offsets in headers without options.
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

/// A number that is the same for all packets from one address; see [`super::rendezvous`].
fn address(ipv6: bool) -> Vec<sock_filter> {
    let of_version4 = fold(MAPPED, &VERSION4);
    let mut lines = if ipv6 { by_version(fold(0, &VERSION6), of_version4) } else { of_version4 };
    for (shift, factor) in MIX {
        lines.extend([
            line(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            line(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 0, shift),
            line(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0, 0, 0),
            line(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, 0, 0, factor),
        ]);
    }
    lines
}

/// Folds the words of the source address into one, beginning with the word `begin`.
fn fold(begin: u32, layout: &Layout) -> Vec<sock_filter> {
    let add = |number: i32| {
        [
            line(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, 0, 0, FOLD),
            line(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            load(offset(libc::SKF_NET_OFF, layout.source + 4 * number)),
            line(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0, 0, 0),
        ]
    };
    let begin = line(libc::BPF_LD | libc::BPF_IMM, 0, 0, begin);
    std::iter::once(begin).chain((0..layout.words).flat_map(add)).collect()
}

fn offset(area: libc::c_int, at: libc::c_int) -> u32 {
    (area + at).cast_unsigned()
}

fn load(offset: u32) -> sock_filter {
    load_of(libc::BPF_W, offset)
}

fn load_of(size: u32, offset: u32) -> sock_filter {
    line(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset)
}

fn line(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}
