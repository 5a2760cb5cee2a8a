//! The ways in which programs make the calls: with addresses of many lengths, and as programs of 32 bits do.

use pmr::os::net::reuseport::KernelBalancing;

use crate::host::{Done, Host, free_port};
use crate::program::{possible, python, skip};

#[test]
fn addresses_are_as_long_as_programs_make_them() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    // 112 is the length of a union of addresses of IP and of Unix sockets.
    let script = format!(
        "
import ctypes, struct
libc = ctypes.CDLL(None)
address = struct.pack('=H', socket.AF_INET) + struct.pack('>H', {port}) + socket.inet_aton('127.0.0.1')
s = socket.socket()
print(libc.bind(s.fileno(), address.ljust(112, b'\\0'), 112))
s.listen()
"
    );
    let program = python(&script);
    let done = host.until_end(&program);
    assert!(matches!(done[..], [Done::Bound(_), Done::Listening(..)]), "{done:?}");
    assert_eq!(program.last_words(), "0\n");
}

/// Calls of 32 bits can be made by any program, from memory that they can reach. What the page holds is
/// `int call(number, first, second, third)` in machine code; behind it an address and the arguments of `socketcall`.
#[cfg(target_arch = "x86_64")]
const CALLS: &str = "
import ctypes, mmap, struct
MAP_32BIT = 0x40
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
page = mmap.mmap(-1, 4096, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page[:17] = bytes.fromhex('53 89f8 89f3 4189d0 89ca 4489c1 cd80 5b c3')
base = ctypes.addressof(ctypes.c_char.from_buffer(page))
call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 4)(base)
print(call(20, 0, 0, 0) == os.getpid(), flush=True)
address = base + 256
arguments = base + 512
def put_address(port):
  page[256:264] = struct.pack('=H', socket.AF_INET) + struct.pack('>H', port) + socket.inet_aton('127.0.0.1')
def put(*words):
  page[512:512 + 4 * len(words)] = struct.pack('=%dI' % len(words), *words)
";

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_32_bits_share_as_well() {
    if !possible() {
        return;
    }
    let (mut host, one, two) = (Host::new(KernelBalancing::RoundRobin), free_port(), free_port());
    let script = format!(
        "{CALLS}
s = socket.socket()
put_address({one})
put(s.fileno(), address, 16)
print(call(102, 2, arguments, 0))
put(s.fileno(), 7)
print(call(102, 4, arguments, 0))
d = socket.socket()
put_address({two})
print(call(361, d.fileno(), address, 16), call(363, d.fileno(), 7, 0))
"
    );
    let program = python(&script);
    let done = host.until_end(&program);
    let said = program.last_words();
    if !said.starts_with("True\n") && !said.contains("Traceback") {
        return skip("no calls of 32 bits");
    }
    assert_eq!(said, "True\n0\n0\n0 0\n");
    let all =
        |done: &[Done]| matches!(done, [Done::Bound(_), Done::Listening(..), Done::Bound(_), Done::Listening(..)]);
    assert!(all(&done), "{done:?}");
    assert_eq!(host.groups.len(), 2);
}
