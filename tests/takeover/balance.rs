//! Programs that share a port: which of them get connections.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};

use pmr::os::net::reuseport::{KernelBalancing, Reason};

use crate::host::{Host, answer, ask, free_port, spread};
use crate::program::{eventually, possible, python, server, skip, start};

#[test]
fn two_programs_share_a_port_by_round_robin_and_at_random() {
    if !possible() {
        return;
    }
    for best_balancing in [KernelBalancing::RoundRobin, KernelBalancing::Random] {
        let (mut host, port) = (Host::new(best_balancing), free_port());
        let programs = [python(&server(port)), python(&server(port))];
        let [(key, first), (same, second)] = [0, 1].map(|at| host.until_listening(&programs[at]));
        assert!(key == same && first != second);
        let (balancer, reason) = host.groups[&key].balancer();
        if balancer != best_balancing {
            assert_eq!(reason, &Reason::Refused(1), "EPERM");
            skip("no CAP_BPF");
            continue;
        }
        let got = spread(key.address, 60);
        let fair = if balancer == KernelBalancing::RoundRobin { 30..=30 } else { 12..=48 };
        assert!(programs.iter().all(|program| fair.contains(&got[&program.pid])), "{balancer:?} {got:?}");
    }
}

#[test]
fn an_excluded_program_serves_its_connections_and_gets_no_new_one() {
    if !possible() {
        return;
    }
    for best_balancing in [KernelBalancing::RoundRobin, KernelBalancing::Random] {
        let (mut host, port) = (Host::new(best_balancing), free_port());
        let slow = python(&server(port).replace("c.close()", "c.recv(1)\n    c.close()"));
        let (key, slow_member) = host.until_listening(&slow);
        // The program has accepted one connection and keeps it open until the client closes; a second one waits in its
        // queue.
        let mut open = [0, 1].map(|_| TcpStream::connect(key.address).unwrap());
        let other = python(&server(port));
        let _ = host.until_listening(&other);
        host.groups.get_mut(&key).unwrap().exclude(slow_member);
        assert_eq!(spread(key.address, 30), HashMap::from([(other.pid, 30)]));
        for client in &mut open {
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(answer(client), slow.pid);
        }
        host.groups.get_mut(&key).unwrap().include(slow_member);
        eventually("its turn", || {
            let mut client = TcpStream::connect(key.address).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            (answer(&mut client) == slow.pid).then_some(())
        });
    }
}

#[test]
fn the_queue_of_a_dead_program_is_served_by_its_successor() {
    if !possible() {
        return;
    }
    let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
    // It listens and never accepts.
    let stuck = python(&format!("import time\ns = socket.create_server(('127.0.0.1', {port}))\ntime.sleep(600)"));
    let (key, member) = host.until_listening(&stuck);
    let mut waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(key.address).unwrap()).collect();
    let root = stuck.pid;
    stuck.kill();
    let queue = |host: &Host| pmr::os::net::diag::waiting(host.groups[&key].socket(member).unwrap()).unwrap();
    // `connect` returns before the last packet of the handshake arrives.
    eventually("the queue exists though its process has ended", || (queue(&host) == 5).then_some(()));
    host.orphan(root);
    let successor = python(&server(port));
    assert_eq!(host.until_listening(&successor), (key, member), "it is the same queue");
    for client in &mut waiting {
        assert_eq!(answer(client), successor.pid);
    }
    assert_eq!((queue(&host), ask(key.address)), (0, successor.pid));
}

#[test]
fn a_static_go_program_with_many_threads_shares_its_port() {
    if !possible() {
        return;
    }
    let Some(go) = ["/usr/bin/go", "/usr/local/go/bin/go"].into_iter().find(|path| std::path::Path::new(path).exists())
    else {
        return skip("no Go");
    };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.go");
    std::fs::write(&source, GO).unwrap();
    let program = folder.path().join("server");
    let mut build = std::process::Command::new(go);
    build.args(["build", "-o"]).args([&program, &source]).env("CGO_ENABLED", "0").env("GO111MODULE", "off");
    let built = build.env("GOFLAGS", "").env("GOCACHE", folder.path().join("cache")).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    for (any, at) in [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("", "[::1]")] {
        let (mut host, port) = (Host::new(KernelBalancing::RoundRobin), free_port());
        let listen = format!("{any}:{port}");
        let programs = [(); 2].map(|()| start(program.to_str().unwrap(), &[&listen], None));
        let keys = [0, 1].map(|at| host.until_listening(&programs[at]).0);
        assert_eq!(keys[0], keys[1]);
        let address: SocketAddr = format!("{at}:{port}").parse().unwrap();
        let got = spread(address, 40);
        assert!(programs.iter().all(|program| got.get(&program.pid).is_some_and(|count| *count >= 5)), "{got:?}");
    }
}

const GO: &str = r#"package main

import ("fmt"; "net"; "os")

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil { fmt.Println(err); os.Exit(1) }
	for {
		c, err := l.Accept()
		if err != nil { panic(err) }
		go func() { fmt.Fprintln(c, os.Getpid()); c.Close() }()
	}
}
"#;
