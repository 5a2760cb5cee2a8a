//! The program of the balancer in eBPF, instruction by instruction.
//!
//! ```text
//!  routes[..].port == source port, and source address == destination address  ─►  its place
//!  else                                                                        ─►  table[number % count]
//! ```
//!
//! The number counts connections. For UDP it is the hash of addresses and ports, and with dealing by address that of
//! the client's address alone ([`rendezvous`](super::rendezvous)). If a map or an entry is missing, the program chooses
//! no socket, and the kernel uses its hash. Without routes, which is nearly always, they cost one read of their number.
//!
//! When a queue closes, the kernel runs the program for its connections without a packet. Then the client's address is
//! read from the connection.

use std::os::fd::{AsRawFd, OwnedFd};

use super::bpf::{Instruction, instruction};
use super::deal::Deal;
use super::rendezvous::{FOLD, MAPPED, MIX};

/// Most sockets in the map of sockets, and most entries in the table.
pub(super) const PLACES: usize = 1024;
/// Most routes at the same time.
pub(super) const ROUTES: usize = 16;

/// The maps of the program.
pub(super) struct Maps<'a> {
    pub(super) counter: &'a OwnedFd,
    pub(super) table: &'a OwnedFd,
    pub(super) sockets: &'a OwnedFd,
    /// `None` for UDP.
    pub(super) routes: Option<&'a OwnedFd>,
}

/// The target of a jump. It stands in place of the offset until that is known.
#[derive(Clone, Copy)]
#[repr(i16)]
enum Label {
    /// Deal by the table.
    Deal = i16::MAX,
    /// The place is known and is on the stack at [`PLACE`].
    Select = i16::MAX - 1,
    /// The place is on the stack, and is valid if both addresses are the same.
    Compare = i16::MAX - 2,
    OfVersion4 = i16::MAX - 3,
    End = i16::MAX - 4,
    /// The client's address is in the packet.
    InPacket = i16::MAX - 5,
    /// The client's address is in a packet of IPv4.
    InPacket4 = i16::MAX - 6,
    /// The address is folded into one word.
    Mix = i16::MAX - 7,
}

// On the stack: the number of an element, a place, 8 bytes of ports or 32 of addresses.
const ELEMENT: i16 = -4;
const PLACE: i16 = -8;
const HEADER: i16 = -40;

/// Functions of the kernel: `bpf_map_lookup_elem`, `bpf_skb_load_bytes`, `bpf_skb_load_bytes_relative`,
/// `bpf_sk_select_reuseport`.
const LOOK_UP: i32 = 1;
const LOAD_BYTES: i32 = 26;
const LOAD_BYTES_RELATIVE: i32 = 68;
const SELECT_REUSEPORT: i32 = 82;
/// Offsets in `struct sk_reuseport_md`: `eth_protocol`, `hash`, `migrating_sk`.
const PROTOCOL: i16 = 20;
const HASH: i16 = 32;
const MIGRATING: i16 = 48;
/// Offset in `struct bpf_sock`: `dst_ip6`, which also holds addresses of IPv4.
const REMOTE_ADDRESS: i16 = 56;
/// `ETH_P_IPV6` as it is on the wire.
const IPV6: i32 = 0x86dd_u16.to_be() as i32;
/// `BPF_HDR_START_NET`.
const NETWORK_HEADER: i32 = 1;
/// Offset of the addresses in the headers of IPv4 and IPv6, and the length of both together.
const ADDRESSES4: (i32, i32) = (12, 8);
const ADDRESSES6: (i32, i32) = (8, 32);
/// Offset and length of the source address alone.
const SOURCE4: (i32, i32) = (12, 4);
const SOURCE6: (i32, i32) = (8, 16);

/// The program that deals in this way. `migrates` is true if the kernel also runs it for connections whose queue
/// closes.
pub(super) fn code(maps: &Maps<'_>, how: Deal, migrates: bool) -> Vec<Instruction> {
    let mut code = Code::default();
    code.add([mov(6, 1), store_immediate(ELEMENT, 0)]);
    if let Some(routes) = maps.routes {
        follow(&mut code, routes);
    }
    code.here(Label::Deal);
    deal(&mut code, maps, how, migrates);
    code.here(Label::Select);
    code.add([mov(1, 6)]);
    code.add(map(2, maps.sockets));
    code.add([mov(3, 10), add_immediate(3, PLACE.into()), set(4, 0), call(SELECT_REUSEPORT)]);
    code.here(Label::End);
    // SK_PASS: with the chosen socket, if there is one.
    code.add([set(0, 1), exit()]);
    code.finish()
}

/// Puts the place of a connection that has a route at [`PLACE`]; goes on for all others.
fn follow(code: &mut Code, routes: &OwnedFd) {
    code.element(routes);
    code.add([jump_if(0, 0, Label::Deal), mov(8, 0), load(1, 8, 0), jump_if(1, 0, Label::Deal)]);
    // The TCP header begins with the source port.
    code.add([mov(1, 6), set(2, 0), mov(3, 10), add_immediate(3, HEADER.into()), set(4, 2), call(LOAD_BYTES)]);
    code.add([jump_unless(0, 0, Label::Deal), load_half(2, 10, HEADER)]);
    for slot in 0..ROUTES {
        let at = i16::try_from(4 + 4 * slot).unwrap_or(0);
        code.add([load_half(1, 8, at), load_half(3, 8, at + 2), jump_if_same(1, 2, Label::Compare)]);
    }
    code.add([jump(Label::Deal)]);
    code.here(Label::Compare);
    code.add([store(PLACE, 3), load(1, 6, PROTOCOL), jump_unless(1, IPV6, Label::OfVersion4)]);
    header(code, ADDRESSES6, Label::Deal);
    for (source, destination) in [(HEADER, HEADER + 16), (HEADER + 8, HEADER + 24)] {
        let words = [load_double(1, 10, source), load_double(2, 10, destination)];
        code.add(words);
        code.add([jump_unless_same(1, 2, Label::Deal)]);
    }
    code.add([jump(Label::Select)]);
    code.here(Label::OfVersion4);
    header(code, ADDRESSES4, Label::Deal);
    code.add([load(1, 10, HEADER), load(2, 10, HEADER + 4), jump_unless_same(1, 2, Label::Deal), jump(Label::Select)]);
}

/// Copies bytes at an offset of the network header to [`HEADER`]. Jumps to `without` if the packet is too short.
fn header(code: &mut Code, (offset, length): (i32, i32), without: Label) {
    code.add([mov(1, 6), set(2, offset), mov(3, 10), add_immediate(3, HEADER.into()), set(4, length)]);
    code.add([set(5, NETWORK_HEADER), call(LOAD_BYTES_RELATIVE), jump_unless(0, 0, without)]);
}

/// Puts the place of the chosen member at [`PLACE`].
fn deal(code: &mut Code, maps: &Maps<'_>, how: Deal, migrates: bool) {
    code.element(maps.counter);
    code.add([jump_if(0, 0, Label::End), mov(7, 0)]);
    code.element(maps.table);
    code.add([jump_if(0, 0, Label::End), mov(8, 0), load(9, 8, 0), jump_if(9, 0, Label::End)]);
    match maps.routes {
        Some(_) => code.add([set(1, 1), fetch_add(7, 1)]),
        None => code.add([load(1, 6, HASH)]),
    }
    match how {
        Deal::Each => {}
        Deal::ByAddress => client(code, migrates),
    }
    code.add([modulo(1, 9), jump_if_beyond(1, PLACES as i32 - 1, Label::End), shift_left(1, 2), add(8, 1)]);
    code.add([load(4, 8, 4), store(PLACE, 4)]);
}

/// Puts the number of the client's address into register 1.
fn client(code: &mut Code, migrates: bool) {
    let fold = |code: &mut Code, from: u8, at: i16| {
        code.add([multiply32(7, FOLD), load(2, from, at), to_host32(2), add32(7, 2)]);
    };
    if migrates {
        code.add([load_double(1, 6, MIGRATING), jump_if(1, 0, Label::InPacket), set(7, 0)]);
        (0..4).for_each(|word| fold(code, 1, REMOTE_ADDRESS + 4 * word));
        code.add([jump(Label::Mix)]);
    }
    code.here(Label::InPacket);
    code.add([load(1, 6, PROTOCOL), jump_unless(1, IPV6, Label::InPacket4)]);
    header(code, SOURCE6, Label::End);
    code.add([set(7, 0)]);
    (0..4).for_each(|word| fold(code, 10, HEADER + 4 * word));
    code.add([jump(Label::Mix)]);
    code.here(Label::InPacket4);
    header(code, SOURCE4, Label::End);
    code.add([set(7, MAPPED.cast_signed())]);
    fold(code, 10, HEADER);
    code.here(Label::Mix);
    for (shift, factor) in MIX {
        code.add([mov32(1, 7), shift_right32(1, shift), xor32(7, 1), multiply32(7, factor)]);
    }
    code.add([mov32(1, 7)]);
}

/// Instructions, and where the labels are.
#[derive(Default)]
struct Code {
    lines: Vec<Instruction>,
    labels: Vec<(Label, usize)>,
}

impl Code {
    fn add(&mut self, lines: impl IntoIterator<Item = Instruction>) {
        self.lines.extend(lines);
    }

    /// Puts the label at the next instruction.
    fn here(&mut self, label: Label) {
        self.labels.push((label, self.lines.len()));
    }

    /// Puts the address of the map's only element into register 0.
    fn element(&mut self, of: &OwnedFd) {
        self.add(map(1, of));
        self.add([mov(2, 10), add_immediate(2, ELEMENT.into()), call(LOOK_UP)]);
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (label, target) in self.labels {
            for (at, line) in self.lines[..target].iter_mut().enumerate() {
                // A jump counts from the instruction after it.
                line.aim(label as i16, i16::try_from(target - at - 1).unwrap_or(0));
            }
        }
        self.lines
    }
}

/// `BPF_LD | BPF_DW | BPF_IMM` with `BPF_PSEUDO_MAP_FD`: two instructions long.
fn map(to: u8, file: &OwnedFd) -> [Instruction; 2] {
    [instruction(0x18, to, 1, 0, file.as_raw_fd()), instruction(0, 0, 0, 0, 0)]
}

// Registers of 64 bits, unless noted otherwise.
fn mov(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}
fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}
fn add(to: u8, from: u8) -> Instruction {
    instruction(0x0f, to, from, 0, 0)
}
fn add_immediate(to: u8, value: i32) -> Instruction {
    instruction(0x07, to, 0, 0, value)
}
fn modulo(to: u8, by: u8) -> Instruction {
    instruction(0x9f, to, by, 0, 0)
}
fn shift_left(to: u8, by: i32) -> Instruction {
    instruction(0x67, to, 0, 0, by)
}
// Registers of 32 bits: the upper half becomes zero.
fn mov32(to: u8, from: u8) -> Instruction {
    instruction(0xbc, to, from, 0, 0)
}
fn add32(to: u8, from: u8) -> Instruction {
    instruction(0x0c, to, from, 0, 0)
}
fn xor32(to: u8, from: u8) -> Instruction {
    instruction(0xac, to, from, 0, 0)
}
fn multiply32(to: u8, by: u32) -> Instruction {
    instruction(0x24, to, 0, 0, by.cast_signed())
}
fn shift_right32(to: u8, by: u32) -> Instruction {
    instruction(0x74, to, 0, 0, by.cast_signed())
}
/// From the order of the network.
fn to_host32(register: u8) -> Instruction {
    instruction(0xdc, register, 0, 0, 32)
}
/// 4 bytes from memory.
fn load(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
}
/// 2 bytes.
fn load_half(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x69, to, from, offset, 0)
}
/// 8 bytes.
fn load_double(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x79, to, from, offset, 0)
}
/// 4 bytes to the stack.
fn store(offset: i16, from: u8) -> Instruction {
    instruction(0x63, 10, from, offset, 0)
}
fn store_immediate(offset: i16, value: i32) -> Instruction {
    instruction(0x62, 10, 0, offset, value)
}
/// Adds to 8 bytes in memory in one step; the register then holds what was there before. Since Linux 5.12.
fn fetch_add(at: u8, register: u8) -> Instruction {
    instruction(0xdb, at, register, 0, 0x01)
}
fn jump(to: Label) -> Instruction {
    instruction(0x05, 0, 0, to as i16, 0)
}
fn jump_if(register: u8, is: i32, to: Label) -> Instruction {
    instruction(0x15, register, 0, to as i16, is)
}
fn jump_unless(register: u8, is: i32, to: Label) -> Instruction {
    instruction(0x55, register, 0, to as i16, is)
}
fn jump_if_same(one: u8, other: u8, to: Label) -> Instruction {
    instruction(0x1d, one, other, to as i16, 0)
}
fn jump_unless_same(one: u8, other: u8, to: Label) -> Instruction {
    instruction(0x5d, one, other, to as i16, 0)
}
fn jump_if_beyond(register: u8, most: i32, to: Label) -> Instruction {
    instruction(0x25, register, 0, to as i16, most)
}
fn call(function: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, function)
}
fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}
