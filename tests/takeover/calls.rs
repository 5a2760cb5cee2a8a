//! The forms of `bind` and `listen` calls: addresses of different lengths, and calls of 32-bit programs.

use pmr::os::net::reuseport::KernelBalancing;

use crate::host::{Done, Host, free_port};
use crate::program::{possible, python, skip};

#[test]
fn a_bind_with_a_longer_address_than_needed_is_intercepted() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    // Some programs pass a union of IP and Unix addresses, which is 112 bytes long.
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
    assert_eq!(program.output(), "0\n");
}

/// Any program can make 32-bit calls, with arguments in memory below 4 GiB. The page has `int call(number, first,
/// second, third)` in machine code, then an address, then the arguments of `socketcall`.
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
fn the_calls_of_32_bit_programs_are_intercepted() {
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
    let output = program.output();
    if !output.starts_with("True\n") && !output.contains("Traceback") {
        return skip("no 32-bit calls");
    }
    assert_eq!(output, "True\n0\n0\n0 0\n");
    let all =
        |done: &[Done]| matches!(done, [Done::Bound(_), Done::Listening(..), Done::Bound(_), Done::Listening(..)]);
    assert!(all(&done), "{done:?}");
    assert_eq!(host.groups.len(), 2);
}
