//! Which members get connections from the real kernel, with each balancer, when sockets join, are excluded and leave.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, bind, getsockname, ipproto, shutdown, socket_with,
};

use super::*;
use crate::os::eventually::eventually;
use crate::os::net::diag;

mod routes;
mod sticky;

/// Reports that a part of a test is skipped, and why.
fn skip(what: &str) {
    let _ = writeln!(io::stderr(), "skipped in part: {what}");
}

fn bound(address: SocketAddr) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).unwrap();
    share(&socket).unwrap();
    bind(&socket, &address).unwrap();
    socket
}

fn address_of(group: &Group) -> SocketAddr {
    let (first, _) = group.members().next().unwrap();
    SocketAddr::try_from(getsockname(group.socket(first).unwrap()).unwrap()).unwrap()
}

fn add(group: &mut Group) -> MemberId {
    let address = address_of(group);
    group.add(bound(address), 0, true).unwrap()
}

/// A group of `count` members on a free port.
fn group(any: &str, at_most: KernelBalancing, count: usize) -> (Group, Vec<MemberId>) {
    let mut group = Group::new(at_most);
    let mut ids = vec![group.add(bound(any.parse().unwrap()), 0, true).unwrap()];
    ids.extend((1..count).map(|_| add(&mut group)));
    (group, ids)
}

/// Accepts `count` connections, and returns the member of each, in the order of the members. It waits for them: a
/// client is connected before the last packet of the handshake has put its connection into the queue.
fn accepted(group: &Group, count: usize) -> Vec<MemberId> {
    let mut got = Vec::new();
    eventually("all connections are accepted", || {
        for (id, _) in group.members() {
            while accept_with(group.socket(id).unwrap(), SocketFlags::CLOEXEC).is_ok() {
                got.push(id);
            }
        }
        got.len() >= count
    });
    got
}

/// Waits until `count` connections are in the queue of a member.
fn wait_in(group: &Group, id: MemberId, count: usize) {
    eventually("the connections are in the queue", || {
        diag::waiting(group.socket(id).unwrap()).unwrap() as usize >= count
    });
}

/// Makes `count` connections, and counts those of each member. All queues are empty afterwards.
fn dealt(group: &Group, count: usize) -> HashMap<MemberId, usize> {
    let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(address_of(group)).unwrap()).collect();
    let mut got = HashMap::new();
    accepted(group, count).into_iter().for_each(|id| *got.entry(id).or_default() += 1);
    assert_eq!(got.values().sum::<usize>(), clients.len(), "{got:?}");
    got
}

/// The balancers with a program: both, if the kernel allows both.
fn balancers() -> Vec<KernelBalancing> {
    match group("127.0.0.1:0", KernelBalancing::RoundRobin, 1).0.balancer() {
        (KernelBalancing::RoundRobin, Reason::Wanted) => vec![KernelBalancing::RoundRobin, KernelBalancing::Random],
        (KernelBalancing::Random, Reason::Refused(libc::EPERM)) => {
            skip("no CAP_BPF");
            vec![KernelBalancing::Random]
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn round_robin_is_exact_and_random_is_fair() {
    for any in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        for balancer in balancers() {
            let (group, ids) = group(any, balancer, 4);
            assert_eq!(group.balancer(), (balancer, &Reason::Wanted));
            let got = dealt(&group, 400);
            for id in ids {
                let fair = if balancer == KernelBalancing::RoundRobin { 100..=100 } else { 50..=150 };
                assert!(fair.contains(&got[&id]), "{any} {balancer:?} {got:?}");
            }
            assert_eq!(group.dealt(), (balancer == KernelBalancing::RoundRobin).then_some(400));
        }
    }
}

#[test]
fn an_excluded_member_gets_nothing_until_it_is_included() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 3);
        group.exclude(ids[1]);
        assert!(group.members().eq([(ids[0], true), (ids[1], false), (ids[2], true)]));
        let got = dealt(&group, 100);
        assert!(got.len() == 2 && !got.contains_key(&ids[1]), "{got:?}");
        group.include(ids[1]);
        group.exclude(ids[0]);
        group.exclude(ids[2]);
        assert_eq!(dealt(&group, 50), HashMap::from([(ids[1], 50)]));
        group.exclude(ids[1]);
        assert_eq!(dealt(&group, 100).len(), 3, "without a member in rotation, all get connections");
        // A member can be added excluded.
        let address = address_of(&group);
        group.include(ids[1]);
        let late = group.add(bound(address), 0, false).unwrap();
        assert_eq!(dealt(&group, 50), HashMap::from([(ids[1], 50)]));
        group.include(late);
        assert_eq!(dealt(&group, 100).len(), 2);
    }
}

#[test]
fn the_indices_stay_right_in_whatever_order_members_are_removed() {
    for balancer in balancers() {
        for first in 0..4 {
            for second in 0..4 {
                let (mut group, ids) = group("127.0.0.1:0", balancer, 4);
                group.remove(ids[first]);
                if first != second {
                    group.remove(ids[second]);
                }
                let new = add(&mut group);
                let rest: Vec<_> = group.members().map(|(id, _)| id).collect();
                assert!(rest.contains(&new) && !rest.contains(&ids[first]));
                // Each alone: a wrong index would show.
                for alone in &rest {
                    rest.iter().for_each(|id| if id == alone { group.include(*id) } else { group.exclude(*id) });
                    assert_eq!(dealt(&group, 8), HashMap::from([(*alone, 8)]), "{balancer:?} {first} {second}");
                }
            }
        }
    }
}

#[test]
fn a_program_that_shuts_its_socket_down_and_listens_again_is_a_new_member() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 3);
        // Not the first member: the kernel chose its port, and releases the port at a shutdown.
        let socket = group.socket(ids[1]).unwrap().try_clone_to_owned().unwrap();
        shutdown(&socket, Shutdown::Both).unwrap();
        let again = group.add(socket, 5, true).unwrap();
        assert!(again > ids[2] && group.members().count() == 3);
        for alone in [ids[0], ids[2], again] {
            [ids[0], ids[2], again].iter().for_each(|id| group.exclude(*id));
            group.include(alone);
            assert_eq!(dealt(&group, 8), HashMap::from([(alone, 8)]), "{balancer:?}");
        }
        // A second `listen` on the same socket only changes the length of the queue.
        let same = group.socket(again).unwrap().try_clone_to_owned().unwrap();
        assert_eq!(group.add(same, 4000, true).unwrap(), again);
        assert_eq!(group.members().count(), 3);
    }
}

#[test]
fn members_that_leave_in_an_unknown_order_leave_the_others_in_rotation() {
    for first in [0, 1] {
        let (mut group, ids) = group("127.0.0.1:0", KernelBalancing::Random, 4);
        for id in [ids[first], ids[1 - first]] {
            shutdown(group.socket(id).unwrap(), Shutdown::Both).unwrap();
        }
        let new = add(&mut group);
        assert_eq!(dealt(&group, 100).len(), 3);
        // The indices of those two may be swapped: only the new member is sure.
        group.exclude(ids[2]);
        assert_eq!(dealt(&group, 20), HashMap::from([(new, 20)]));
        group.include(ids[2]);
        assert_eq!(dealt(&group, 100).len(), 3);
        // The last member moves to the index of one of them.
        group.remove(ids[2]);
        assert_eq!(dealt(&group, 100).len(), 2);
        group.remove(new);
        assert_eq!(dealt(&group, 20), HashMap::from([(ids[3], 20)]));
        // The only one that was not sure is sure again.
        let newest = add(&mut group);
        group.exclude(newest);
        assert_eq!(dealt(&group, 20), HashMap::from([(ids[3], 20)]));
    }
}

#[test]
fn leaving_members_get_nothing_in_whatever_order_they_shut_down() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let (mut group, ids) = group("127.0.0.1:0", KernelBalancing::Random, 6);
        ids[..3].iter().for_each(|id| group.leave(*id));
        for at in order {
            let got = dealt(&group, 40);
            assert!(got.keys().all(|id| ids[3..].contains(id)), "{order:?} before {at}: {got:?}");
            shutdown(group.socket(ids[at]).unwrap(), Shutdown::Both).unwrap();
        }
        assert_eq!(dealt(&group, 40).values().sum::<usize>(), 40);
        group.remove(ids[0]);
        assert_eq!(dealt(&group, 100).len(), 3);
    }
}

#[test]
fn the_queue_of_a_removed_member_moves_to_the_others() {
    if !balancers().contains(&KernelBalancing::RoundRobin) {
        return;
    }
    let (mut group, ids) = group("127.0.0.1:0", KernelBalancing::RoundRobin, 2);
    group.exclude(ids[1]);
    let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address_of(&group)).unwrap()).collect();
    wait_in(&group, ids[0], 5);
    group.include(ids[1]);
    group.remove(ids[0]);
    let accept = || accept_with(group.socket(ids[1]).unwrap(), SocketFlags::CLOEXEC);
    let arrived: Vec<_> = std::iter::from_fn(|| accept().ok()).collect();
    if arrived.is_empty() {
        return skip("no migration before Linux 5.14");
    }
    assert_eq!(arrived.len(), 5);
    for client in &mut clients {
        client.write_all(b"alive").unwrap();
    }
}

#[test]
fn an_adopted_group_continues_with_the_members_in_rotation() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 3);
        group.exclude(ids[0]);
        let json = serde_json::to_string(&group.record()).unwrap();
        // The table in the kernel is newer than the record.
        group.include(ids[0]);
        group.exclude(ids[1]);
        let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned().unwrap();
        let sockets = ids.iter().map(|id| (*id, copy(group.socket(*id).unwrap()))).collect();
        let files = group.files().into_iter().map(|(name, file)| (name.to_owned(), copy(file))).collect();
        drop(group);
        let record: Record = serde_json::from_str(&json).unwrap();
        assert!(record.members().eq(ids.iter().copied()));
        let mut next = Group::adopt(record, sockets, files);
        assert_eq!(next.balancer(), (balancer, &Reason::Wanted));
        let got = dealt(&next, 100);
        assert!(got.len() == 2 && !got.contains_key(&ids[0]), "{got:?}");
        next.include(ids[0]);
        let new = add(&mut next);
        assert!(new > ids[2] && dealt(&next, 200).len() == 4);
    }
}

#[test]
fn an_adopted_group_without_its_files_falls_back() {
    if !balancers().contains(&KernelBalancing::RoundRobin) {
        return;
    }
    let (group, ids) = group("127.0.0.1:0", KernelBalancing::RoundRobin, 2);
    let sockets = ids.iter().map(|id| (*id, group.socket(*id).unwrap().try_clone_to_owned().unwrap())).collect();
    let mut next = Group::adopt(group.record(), sockets, BTreeMap::new());
    drop(group);
    assert_eq!(next.balancer(), (KernelBalancing::Random, &Reason::Refused(libc::EBUSY)));
    next.exclude(ids[0]);
    assert_eq!(dealt(&next, 20), HashMap::from([(ids[1], 20)]));
}

#[test]
fn the_datagrams_of_a_client_go_to_one_server() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        for balancer in balancers() {
            let mut group = Group::new(balancer);
            let mut address: SocketAddr = any.parse().unwrap();
            let mut ids = Vec::new();
            for _ in 0..3 {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap();
                share(&socket).unwrap();
                bind(&socket, &address).unwrap();
                address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
                ids.push(group.add(socket, 0, true).unwrap());
            }
            assert_eq!(group.balancer(), (balancer, &Reason::Wanted));
            assert_eq!(served(&group, &ids, address, 60), 3, "{any} {balancer:?}");
            group.exclude(ids[1]);
            assert_eq!(served(&group, &ids, address, 60), 2);
            assert!(!Key::of(group.socket(ids[0]).unwrap()).unwrap().unwrap().tcp);
        }
    }
}

/// Sends three packets from each of `clients` clients; returns how many servers got packets.
fn served(group: &Group, ids: &[MemberId], address: SocketAddr, clients: usize) -> usize {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let clients: Vec<_> = (0..clients).map(|_| UdpSocket::bind(any).unwrap()).collect();
    for client in &clients {
        (0..3).for_each(|_| assert_eq!(client.send_to(b"x", address).unwrap(), 1));
    }
    let open = |id: &MemberId| UdpSocket::from(group.socket(*id).unwrap().try_clone_to_owned().unwrap());
    let mut servers: Vec<_> = ids.iter().map(|id| (open(id), HashMap::<SocketAddr, usize>::new())).collect();
    let mut left = 3 * clients.len();
    eventually("all packets are received", || {
        for (socket, from) in &mut servers {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 8]) {
                *from.entry(client).or_default() += 1;
                left -= 1;
            }
        }
        left == 0
    });
    let together = |from: &HashMap<SocketAddr, usize>| from.values().all(|packets| *packets == 3);
    assert!(servers.iter().all(|(_, from)| together(from)), "a client's packets stay together");
    let counts: Vec<usize> = servers.iter().map(|(_, from)| from.len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), clients.len(), "{counts:?}");
    counts.into_iter().filter(|count| *count > 0).count()
}

#[test]
fn multipath_sockets_are_shared_by_hash_or_replaced() {
    let multipath =
        || socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, Some(ipproto::MPTCP));
    let Ok(first) = multipath() else { return skip("no MPTCP") };
    assert!(is_multipath(&first) && !is_multipath(bound("127.0.0.1:0".parse().unwrap())));
    share(&first).unwrap();
    bind(&first, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let mut group = Group::new(KernelBalancing::RoundRobin);
    group.add(first, 0, true).unwrap();
    let second = multipath().unwrap();
    share(&second).unwrap();
    bind(&second, &address_of(&group)).unwrap();
    group.add(second, 0, true).unwrap();
    assert_eq!(group.balancer(), (KernelBalancing::Hash, &Reason::Refused(libc::EOPNOTSUPP)));
    assert_eq!(dealt(&group, 60).len(), 2);
    // A plain socket takes its place, with its options and its owner.
    let wanted = multipath().unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&wanted, true).unwrap();
    let plain = single_path(&wanted).unwrap();
    assert!(!is_multipath(&plain) && rustix::net::sockopt::socket_reuseaddr(&plain).unwrap());
    assert!(rustix::fs::fcntl_getfl(&plain).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn sockets_of_different_groups_have_different_keys() {
    let key = |socket: &OwnedFd| Key::of(socket).unwrap().unwrap();
    let first = bound("127.0.0.1:0".parse().unwrap());
    let again = bound(key(&first).address);
    assert_eq!(key(&first), key(&again));
    assert_ne!(key(&first), key(&bound("127.0.0.1:0".parse().unwrap())));
    let dual = bound("[::]:0".parse().unwrap());
    assert!(!key(&dual).v6only);
    let (unix, _) = crate::os::net::fdpass::channel_pair().unwrap();
    assert_eq!(Key::of(unix).unwrap(), None);
    if crate::os::process::identity::uid() == 0 {
        rustix::fs::fchown(&again, Some(rustix::fs::Uid::from_raw(4321)), None).unwrap();
        assert_ne!(key(&first), key(&again));
    }
}

#[test]
fn a_port_that_another_socket_does_not_share_is_refused() {
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    share(&socket).unwrap();
    let refused = crate::os::net::address::Address::from(foreign.local_addr().unwrap()).bind(&socket).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn a_key_includes_the_addresses_that_reach_its_sockets() {
    let includes =
        |key: &str, to: &str| Key::new(key.parse().unwrap(), true).unwrap().includes(to.parse::<SocketAddr>().unwrap());
    for (key, to, wanted) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ("0.0.0.0:80", "127.0.0.2:80", true),
        ("0.0.0.0:80", "[::1]:80", false),
        ("[::]:80", "[::1]:80", true),
        ("[::]:80", "127.0.0.1:80", true),
        ("[::1]:80", "[::2]:80", false),
    ] {
        assert_eq!(includes(key, to), wanted, "{key} {to}");
    }
}
