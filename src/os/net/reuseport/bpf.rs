//! The part of `bpf(2)` that pmr needs: instructions, maps, loading a program. Layouts are those of `linux/bpf.h`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Commands of the call.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;

/// Kinds of maps.
pub(super) const ARRAY: u32 = 2;
pub(super) const REUSEPORT_SOCKARRAY: u32 = 20;

/// The type of the program: it chooses one of the sockets that share a port.
const SK_REUSEPORT: u32 = 21;
/// The kernel also runs the program for the connections of a socket that closes.
pub(super) const SELECT_OR_MIGRATE: u32 = 40;
/// The kernel does not, which is the only way before Linux 5.14.
pub(super) const SELECT: u32 = 39;

/// One instruction.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// Replaces the jump offset `placeholder` by `offset`.
    pub(super) fn aim(&mut self, placeholder: i16, offset: i16) {
        if self.offset == placeholder {
            self.offset = offset;
        }
    }
}

pub(super) const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

#[repr(C)]
#[derive(Default)]
struct NewMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C, align(8))]
struct Element {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C, align(8))]
#[derive(Default)]
struct NewProgram {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// # Safety
/// All that the structure points to must be valid for what the command does with it.
unsafe fn bpf<T>(command: libc::c_int, argument: &mut T) -> io::Result<i32> {
    // SAFETY: the size of the structure is an argument; the caller promises the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(argument), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(0)) }
}

fn file(number: i32) -> OwnedFd {
    // SAFETY: the kernel has just opened it, close-on-exec as all files of this call.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut().zip(text.bytes().take(15)).for_each(|(to, from)| *to = from);
    name
}

/// A new map whose keys are numbers of 4 bytes.
pub(super) fn new_map(called: &str, kind: u32, value_size: usize, entries: usize) -> io::Result<OwnedFd> {
    let size = |size: usize| u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (value_size, entries) = (size(value_size)?, size(entries)?);
    let mut map = NewMap { kind, key_size: 4, value_size, entries, name: name(called), ..NewMap::default() };
    // SAFETY: the structure points to nothing.
    unsafe { bpf(MAP_CREATE, &mut map) }.map(file)
}

/// Sets an element, whose value has the map's size.
pub(super) fn update(map: impl AsFd, key: u32, value: &[u8]) -> io::Result<()> {
    let mut element = element(&map, &key, value.as_ptr() as u64);
    // SAFETY: the kernel reads a key of 4 bytes, and a value of the map's size, which the caller passes.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut element) }.map(drop)
}

/// Removes an element.
pub(super) fn delete(map: impl AsFd, key: u32) -> io::Result<()> {
    let mut element = element(&map, &key, 0);
    // SAFETY: the kernel reads a key of 4 bytes.
    unsafe { bpf(MAP_DELETE_ELEM, &mut element) }.map(drop)
}

/// Reads an element of 8 bytes.
pub(super) fn look_up(map: impl AsFd, key: u32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut element = element(&map, &key, (&raw mut value) as u64);
    // SAFETY: the kernel reads a key of 4 bytes and writes a value of the map's size, which is 8.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut element) }?;
    Ok(value)
}

fn element(map: &impl AsFd, key: &u32, value: u64) -> Element {
    let map = map.as_fd().as_raw_fd().cast_unsigned();
    Element { map, key: std::ptr::from_ref(key) as u64, value, flags: 0 }
}

/// Loads a program, which the kernel verifies.
pub(super) fn load(called: &str, instructions: &[Instruction], attach_type: u32) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"MIT";
    let mut program = NewProgram {
        kind: SK_REUSEPORT,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(0),
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        name: name(called),
        attach_type,
        ..NewProgram::default()
    };
    // SAFETY: the kernel reads as many instructions as there are, and a string that ends in a zero byte.
    unsafe { bpf(PROG_LOAD, &mut program) }.map(file)
}
