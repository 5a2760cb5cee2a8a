//! Users: programs that run as another user, and all tests of this target without privileges.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pmr::os::net::reuseport::{KernelBalancing, Reason};
use pmr::os::process::credentials::Credentials;
use pmr::os::process::identity;
use pmr::os::tracer::Tracer;

use crate::host::{Host, ask, free_port, spread};
use crate::program::{possible, python, python_as, server, skip};

/// A server that first prints its user and whether it can gain privileges, and that ends after two answers.
fn reporting_server(port: u16) -> String {
    let report = "sys.stdout.write(''.join(l for l in open('/proc/self/status') if l[:5] in ('NoNew', 'Uid:\\t')))";
    format!("{report}\nsys.stdout.flush()\n{}", server(port)).replace("while True:", "for _ in range(2):")
}

#[test]
fn programs_that_root_starts_as_another_user_can_still_gain_privileges() {
    if identity::uid() != 0 {
        return skip("not root");
    }
    if !possible() {
        return;
    }
    let user = Credentials { uid: 4321, gid: 4322, groups: vec![4322] };
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let programs = [(); 2].map(|()| python_as(&reporting_server(port), Some(&user)));
    let keys = [0, 1].map(|at| host.until_listening(&programs[at]).0);
    assert_eq!((keys[0], keys[1].user), (keys[1], 4321), "the socket belongs to the user that made it");
    // The kernel does not share a port between users.
    let other = python(&server(port));
    let bind = other.next_call().unwrap();
    assert_eq!(host.handle(&other, &bind), crate::host::Done::Refused(98));
    while host.groups[&keys[0]].dealt() != Some(4) && host.groups[&keys[0]].balancer().0 == KernelBalancing::RoundRobin
    {
        ask(keys[0].address);
    }
    if host.groups[&keys[0]].balancer().0 != KernelBalancing::RoundRobin {
        return skip("no CAP_BPF: it is not known how many connections each program serves");
    }
    for program in programs {
        let output = program.output();
        assert!(output.contains("Uid:\t4321\t4321"), "{output}");
        assert_eq!(output.contains("NoNewPrivs:\t0"), keeps_privileges(), "{output}");
    }
}

#[test]
fn a_program_that_may_not_bind_a_privileged_port_gets_eacces_though_the_daemon_may() {
    if identity::uid() != 0 {
        return skip("not root");
    }
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if !possible() || first_free.is_ok_and(|text| text.trim().parse::<u16>().unwrap() <= 81) {
        return skip("no port is privileged");
    }
    let user = Credentials { uid: 4321, gid: 4322, groups: vec![4322] };
    let script = "try: socket.socket().bind(('127.0.0.1', 81))\nexcept OSError as e: print(e.errno)";
    for (user, output) in [(Some(&user), "13\n"), (None, "")] {
        let program = python_as(script, user);
        Host::new(KernelBalancing::Random).until_end(&program);
        assert_eq!(program.output(), output);
    }
}

fn keeps_privileges() -> bool {
    pmr::os::seccomp::ability::ability(None, &Tracer::direct()).unwrap().keeps_privileges
}

/// Runs all tests of this target again as a user without privileges, in a process of its own.
#[test]
fn all_tests_pass_without_privileges() {
    const NOBODY: u32 = 65534;
    if identity::uid() != 0 {
        return shared_by_a_user();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("takeover");
    // By another process: a file that this one had open for writing could fail to execute with ETXTBSY.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut all = Command::new(&program);
    all.uid(NOBODY).gid(NOBODY).current_dir("/").args(["--test-threads=2", "--nocapture", "--skip", "static_go"]);
    let _deadline = crate::deadline::Deadline::new(None);
    let output = all.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
}

fn shared_by_a_user() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    let programs = [(); 2].map(|()| python(&reporting_server(port).replace("range(2)", "range(1000)")));
    let [(key, first), _] = [0, 1].map(|at| host.until_listening(&programs[at]));
    let group = host.groups.get_mut(&key).unwrap();
    match group.balancer() {
        (KernelBalancing::Random, Reason::Refused(1)) => {}
        // Machines where every user may load BPF programs.
        (KernelBalancing::RoundRobin, Reason::Wanted) => {}
        other => panic!("{other:?}"),
    }
    let got = spread(key.address, 60);
    assert!(programs.iter().all(|program| got[&program.pid] >= 10), "{got:?}");
    host.groups.get_mut(&key).unwrap().exclude(first);
    assert_eq!(spread(key.address, 20).len(), 1);
    for pid in programs.iter().map(|program| program.pid) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
}
