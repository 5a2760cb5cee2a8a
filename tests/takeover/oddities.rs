//! Unusual uses of sockets: each call has the result that it would have without interception.

use std::net::TcpListener;

use pmr::os::net::reuseport::KernelBalancing;

use crate::host::{Done, Host, answer, ask, free_port};
use crate::program::{Program, possible, python, server, skip};

const IN_USE: Done = Done::Refused(98);

/// Runs a script to its end. Returns the results of its calls, and its output.
fn run(host: &mut Host, script: &str) -> (Vec<Done>, String) {
    let program = python(script);
    let done = host.until_end(&program);
    (done, program.output())
}

#[test]
fn a_port_of_another_program_is_in_use() {
    if !possible() {
        return;
    }
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = Host::new(KernelBalancing::RoundRobin);
    let script = format!(
        "try:\n  s = socket.socket()\n  s.bind(('127.0.0.1', {}))\nexcept OSError as e:\n  print(e.errno)",
        foreign.local_addr().unwrap().port()
    );
    let (done, output) = run(&mut host, &script);
    assert_eq!((done, output.as_str()), (vec![IN_USE], "98\n"));
    // The owner can be found.
    let owner = pmr::os::net::diag::listeners(foreign.local_addr().unwrap().port()).unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(pmr::os::net::diag::sockets_of(&[own]).contains(&owner[0].inode));
}

#[test]
fn calls_for_sockets_that_are_not_shared_are_left_to_the_kernel() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::new(KernelBalancing::RoundRobin);
    let script = format!(
        "
a = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(a.getsockname())
a.accept()
u = socket.socket(socket.AF_UNIX)
u.bind('{}/x.sock')
u.listen()
socket.socket(socket.AF_UNIX).connect('{0}/x.sock')
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
d.bind(('127.0.0.1', 0))
print(socket.getaddrinfo('localhost', 80) != [], d.getsockname()[1] > 0)
try: socket.socket().bind(('203.0.113.1', 8080))
except OSError as e: print(e.errno)
import ctypes
print(ctypes.CDLL(None, use_errno=True).bind(a.fileno(), 1, 16), ctypes.get_errno())
",
        folder.path().display()
    );
    let (done, output) = run(&mut host, &script);
    // EADDRNOTAVAIL and EFAULT come from the kernel.
    assert_eq!(output, "True True\n99\n-1 14\n", "{done:?}");
    assert!(host.groups.is_empty());
}

#[test]
fn two_binds_of_one_program_to_one_address_clash_unless_the_first_socket_is_closed() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let script = format!(
        "
def bound(*options):
  s = socket.socket()
  for o in options: s.setsockopt(socket.SOL_SOCKET, o, 1)
  s.bind(('127.0.0.1', {port}))
  return s
probe = bound()
probe.listen()
probe.close()
a = bound(socket.SO_REUSEADDR)
a.listen()
try: bound(socket.SO_REUSEADDR)
except OSError as e: print(e.errno)
b = bound(socket.SO_REUSEPORT)
b.listen()
print('shared')
a.close(); b.close()
"
    );
    let (done, output) = run(&mut host, &script);
    assert_eq!(output, "98\nshared\n", "{done:?}");
    assert_eq!(done.iter().filter(|done| matches!(done, Done::Listening(..))).count(), 3, "{done:?}");
    assert_eq!(done[4], IN_USE, "{done:?}");
    // No connection goes to the closed sockets once they are removed from the group.
    let server = python(&server(port));
    let (key, _) = host.until_listening(&server);
    let group = host.groups.get_mut(&key).unwrap();
    let old: Vec<_> = group.members().map(|(id, _)| id).collect();
    assert_eq!(old.len(), 3, "the two that were open at its end, and the server's");
    old.iter().take(2).for_each(|id| group.remove(*id));
    (0..10).for_each(|_| assert_eq!(ask(key.address), server.pid));
}

#[test]
fn a_parent_binds_and_its_children_listen() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let script = format!(
        "
s = socket.socket()
s.bind(('127.0.0.1', {port}))
if os.fork() == 0:
  s.listen(5)
  while True:
    c, _ = s.accept()
    c.sendall(b'%d\\n' % os.getpid())
    c.close()
os.wait()
"
    );
    let parent = python(&script);
    let bind = parent.next_call().unwrap();
    assert_eq!(bind.thread, parent.pid);
    assert!(matches!(host.handle(&parent, &bind), Done::Bound(_)));
    let listen = parent.next_call().unwrap();
    assert_ne!(listen.thread, parent.pid);
    assert!(matches!(host.handle(&parent, &listen), Done::Listening(..)));
    let key = *host.groups.keys().next().unwrap();
    assert_eq!(ask(key.address), listen.thread);
}

#[test]
fn a_bind_of_another_thread_than_the_main_one_is_intercepted() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let script = format!(
        "
import threading
def serve():
  {}
threading.Thread(target=serve).start()
",
        server(port).replace('\n', "\n  ")
    );
    let program = python(&script);
    let bind = program.next_call().unwrap();
    assert_ne!(bind.thread, program.pid, "the thread id");
    assert_eq!(host.handle(&program, &bind), Done::Bound(format!("127.0.0.1:{port}").parse().unwrap()));
    let (key, _) = host.until_listening(&program);
    assert_eq!(ask(key.address), program.pid);
}

#[test]
fn ipv4_and_ipv6_of_one_port_are_two_groups_and_udp_a_third() {
    if !possible() {
        return;
    }
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("no IPv6");
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let script = format!(
        "
import time
four = socket.create_server(('0.0.0.0', {port}))
six = socket.socket(socket.AF_INET6)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
six.bind(('::', {port}))
six.listen()
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
d.bind(('127.0.0.1', {port}))
time.sleep(600)
"
    );
    let programs: [Program; 2] = [(); 2].map(|()| python(&script));
    for program in &programs {
        let done: Vec<_> = (0..5).map(|_| host.handle(program, &program.next_call().unwrap())).collect();
        assert!(done.iter().all(|done| matches!(done, Done::Bound(_) | Done::Listening(..))), "{done:?}");
    }
    assert_eq!(host.groups.len(), 3);
    assert!(host.groups.values().all(|group| group.members().count() == 2));
    assert_eq!(host.groups.keys().filter(|key| key.v6only).count(), 1);
}

#[test]
fn multipath_sockets_become_plain_ones() {
    if !possible() {
        return;
    }
    if std::fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() != "1") {
        return skip("no MPTCP");
    }
    let (mut host, port) = (Host::new(KernelBalancing::Random), free_port());
    let script = server(port).replace("socket.socket()", "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)");
    let programs = [python(&script), python(&script)];
    let (key, first) = host.until_listening(&programs[0]);
    let (_, _) = host.until_listening(&programs[1]);
    assert_eq!(host.groups[&key].balancer().0, KernelBalancing::Random, "steered, which MPTCP cannot be");
    host.groups.get_mut(&key).unwrap().exclude(first);
    assert_eq!(ask(key.address), programs[1].pid);
    let mut client = std::net::TcpStream::connect(key.address).unwrap();
    assert_eq!(answer(&mut client), programs[1].pid);
}
