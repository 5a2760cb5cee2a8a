//! The balancer in eBPF: exact round robin. It takes `CAP_BPF`.
//!
//! Three maps: a counter, the table of those in rotation (how many, then their places), and the sockets by place. A
//! socket's place is ours to give and never changes, so the kernel's own order does not matter here. Changing the table
//! is one write; a connection that is being placed at this instant may still see the old one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Instruction, instruction};
use super::{Spread, set_option};

/// How many sockets there is room for.
pub(super) const PLACES: usize = 1024;
/// `SO_ATTACH_REUSEPORT_EBPF` of `asm-generic/socket.h`.
const ATTACH: libc::c_int = 52;

/// The maps, which a program in the kernel works with.
#[derive(Debug)]
pub(super) struct Extended {
    program: OwnedFd,
    counter: OwnedFd,
    table: OwnedFd,
    sockets: OwnedFd,
    migrates: bool,
}

impl Extended {
    pub(super) fn load(spread: Spread) -> io::Result<Extended> {
        let counter = bpf::new_map("pmr_counter", bpf::ARRAY, 8, 1)?;
        let table = bpf::new_map("pmr_table", bpf::ARRAY, 4 * (1 + PLACES), 1)?;
        let sockets = bpf::new_map("pmr_sockets", bpf::REUSEPORT_SOCKARRAY, 8, PLACES)?;
        let code = code(spread, &counter, &table, &sockets);
        let (program, migrates) = match bpf::load("pmr_balancer", &code, bpf::SELECT_OR_MIGRATE) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (bpf::load("pmr_balancer", &code, bpf::SELECT)?, false)
            }
            result => (result?, spread == Spread::Connections),
        };
        Ok(Extended { program, counter, table, sockets, migrates })
    }

    /// From the files another process made, in the order of [`Extended::files`].
    pub(super) fn adopt([program, counter, table, sockets]: [OwnedFd; 4], migrates: bool) -> Extended {
        Extended { program, counter, table, sockets, migrates }
    }

    /// True if it is also asked where the connections of a socket that closes are to go.
    pub(super) fn migrates(&self) -> bool {
        self.migrates
    }

    pub(super) fn files(&self) -> [(&'static str, BorrowedFd<'_>); 4] {
        [
            ("program", self.program.as_fd()),
            ("counter", self.counter.as_fd()),
            ("table", self.table.as_fd()),
            ("sockets", self.sockets.as_fd()),
        ]
    }

    /// Has the group that this socket belongs to ask the program.
    pub(super) fn attach(&self, member: impl AsFd) -> io::Result<()> {
        set_option(member, ATTACH, &self.program.as_raw_fd())
    }

    /// Gives a socket, which listens already, its place.
    pub(super) fn place(&self, place: u32, socket: impl AsFd) -> io::Result<()> {
        let number = u64::from(socket.as_fd().as_raw_fd().cast_unsigned());
        bpf::update(&self.sockets, place, &number.to_ne_bytes())
    }

    /// Empties a place. One whose socket is closed is empty already.
    pub(super) fn clear(&self, place: u32) {
        let _ = bpf::delete(&self.sockets, place);
    }

    /// From now on these are in rotation.
    pub(super) fn set_table(&self, places: &[u32]) -> io::Result<()> {
        let mut value = vec![0_u32; 1 + PLACES];
        value[0] = u32::try_from(places.len()).unwrap_or(0);
        value[1..].iter_mut().zip(places).for_each(|(to, from)| *to = *from);
        let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bpf::update(&self.table, 0, &bytes)
    }

    /// How many connections it has placed. 0 where it goes by client instead of counting.
    pub(super) fn placed(&self) -> io::Result<u64> {
        bpf::look_up(&self.counter, 0)
    }
}

/// The program: `place = table[number % count]`, where the number counts connections, or is the hash of addresses and
/// ports for what has no connections. Where anything is missing it chooses nobody, and the kernel does by its hash.
fn code(spread: Spread, counter: &OwnedFd, table: &OwnedFd, sockets: &OwnedFd) -> Vec<Instruction> {
    // Jumps to the end are filled in below.
    const END: i16 = i16::MAX;
    let mut code = vec![mov(6, 1), store_immediate(-4, 0)];
    code.extend(element(counter));
    code.extend([jump_if_zero(0, END), mov(7, 0)]);
    code.extend(element(table));
    code.extend([jump_if_zero(0, END), mov(8, 0), load(9, 8, 0), jump_if_zero(9, END)]);
    match spread {
        Spread::Connections => code.extend([set(1, 1), fetch_add(7, 1)]),
        Spread::Clients => code.push(load(1, 6, HASH)),
    }
    code.extend([modulo(1, 9), jump_if_beyond(1, PLACES as i32 - 1, END), shift_left(1, 2), add(8, 1)]);
    code.extend([load(4, 8, 4), store(-8, 4), mov(1, 6)]);
    code.extend(map(2, sockets));
    code.extend([mov(3, 10), add_immediate(3, -8), set(4, 0), call(SELECT_REUSEPORT)]);
    let end = code.len();
    // SK_PASS: with what was chosen, if anything was.
    code.extend([set(0, 1), exit()]);
    // A jump counts from the instruction after it.
    for (distance, line) in (0..).zip(code[..end].iter_mut().rev()) {
        line.aim(END, distance);
    }
    code
}

/// `bpf_map_lookup_elem` and `bpf_sk_select_reuseport`.
const LOOK_UP: i32 = 1;
const SELECT_REUSEPORT: i32 = 82;
/// Offset of `hash` in `struct sk_reuseport_md`.
const HASH: i16 = 32;

/// Puts the address of the map's element, whose number lies at the stack's -4, into register 0.
fn element(of: &OwnedFd) -> Vec<Instruction> {
    let mut code = map(1, of).to_vec();
    code.extend([mov(2, 10), add_immediate(2, -4), call(LOOK_UP)]);
    code
}

/// `BPF_LD | BPF_DW | BPF_IMM` with `BPF_PSEUDO_MAP_FD`: two instructions long.
fn map(to: u8, file: &OwnedFd) -> [Instruction; 2] {
    [instruction(0x18, to, 1, 0, file.as_raw_fd()), instruction(0, 0, 0, 0, 0)]
}

// Registers of 64 bits, where not said otherwise.
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
/// 4 bytes from memory.
fn load(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
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
fn jump_if_zero(register: u8, offset: i16) -> Instruction {
    instruction(0x15, register, 0, offset, 0)
}
fn jump_if_beyond(register: u8, most: i32, offset: i16) -> Instruction {
    instruction(0x25, register, 0, offset, most)
}
fn call(function: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, function)
}
fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}
