//! Dealing by address: all connections from an address go to one member, and few clients change their member when
//! members join and leave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use super::super::rendezvous::{BUCKETS, FEW_BUCKETS, affinity, bucket};
use super::*;

/// A group with `count` members that have the seats 0 to `count - 1`, in this order.
fn sticky(any: &str, balancer: KernelBalancing, count: usize) -> (Group, Vec<MemberId>) {
    let (mut group, ids) = group(any, balancer, count);
    group.set_deal(Deal::ByAddress);
    for (number, id) in ids.iter().enumerate() {
        seat(&mut group, *id, number, 0);
    }
    assert_eq!(group.balancer(), (balancer, &Reason::Wanted));
    (group, ids)
}

fn seat(group: &mut Group, id: MemberId, number: usize, rank: u64) {
    group.set_seat(id, Some(Seat { number: u32::try_from(number).unwrap(), rank }));
}

/// Addresses of clients on this machine.
fn clients() -> Vec<IpAddr> {
    (1..=40)
        .flat_map(|last| [[127, 0, 0, last], [127, last, 3, 9]])
        .map(|octets| Ipv4Addr::from(octets).into())
        .collect()
}

/// Makes a connection from this address, and returns the member that got it.
fn reached(group: &Group, from: IpAddr, to: SocketAddr) -> MemberId {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let by = accepted(group, 1);
    assert_eq!(by.len(), 1, "{by:?}");
    by[0]
}

/// The number of the member, of these numbers, that a client belongs to.
fn owner(group: &Group, client: IpAddr, numbers: impl IntoIterator<Item = usize>) -> usize {
    let buckets = if group.balancer().0 == KernelBalancing::RoundRobin { BUCKETS } else { FEW_BUCKETS };
    let bucket = u64::from(bucket(client, buckets));
    numbers.into_iter().max_by_key(|number| affinity(bucket, u32::try_from(*number).unwrap())).unwrap()
}

/// Asserts that each client reaches the member that it belongs to, of those with these numbers, each time.
#[track_caller]
fn assert_each_reaches_its_member(
    group: &Group,
    ids: &[MemberId],
    clients: &[IpAddr],
    to: SocketAddr,
    numbers: &[usize],
) {
    for client in clients {
        let theirs = ids[owner(group, *client, numbers.iter().copied())];
        for _ in 0..3 {
            assert_eq!(reached(group, *client, to), theirs, "{client} {to} {:?}", group.balancer());
        }
    }
}

fn local(group: &Group) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address_of(group).port())
}

#[test]
fn clients_keep_their_member_and_move_only_while_it_is_excluded() {
    for any in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        for balancer in balancers() {
            let (mut group, ids) = sticky(any, balancer, 4);
            let (clients, to) = (clients(), local(&group));
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            let mut by: HashMap<usize, usize> = HashMap::new();
            clients.iter().for_each(|client| *by.entry(owner(&group, *client, 0..4)).or_default() += 1);
            assert!(by.len() == 4 && by.values().all(|count| (8..=40).contains(count)), "{by:?}");
            group.exclude(ids[2]);
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 3]);
            group.include(ids[2]);
            group.remove(ids[0]);
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[1, 2, 3]);
            assert_eq!(
                group.dealt().is_some(),
                balancer == KernelBalancing::RoundRobin,
                "connections by address are counted, too"
            );
        }
    }
}

#[test]
fn a_successor_has_the_clients_of_its_number_as_soon_as_it_is_in_rotation() {
    for balancer in balancers() {
        let (mut group, mut ids) = sticky("127.0.0.1:0", balancer, 3);
        let (clients, to) = (clients(), local(&group));
        let old = ids[1];
        let new = group.add(bound(to), 0, false).unwrap();
        seat(&mut group, new, 1, 1);
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2]);
        group.include(new);
        ids[1] = new;
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2]);
        group.exclude(old);
        group.remove(old);
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

#[test]
fn a_member_without_a_seat_gets_clients_only_if_no_member_has_one() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 2);
        group.set_deal(Deal::ByAddress);
        let (clients, to) = (clients(), local(&group));
        assert!(
            clients.iter().all(|client| reached(&group, *client, to) == ids[1]),
            "one member without a seat has all clients"
        );
        seat(&mut group, ids[0], 7, 0);
        assert!(clients.iter().all(|client| reached(&group, *client, to) == ids[0]));
        group.exclude(ids[0]);
        assert!(clients.iter().all(|client| reached(&group, *client, to) == ids[1]));
    }
}

#[test]
fn clients_of_both_ip_versions_keep_their_member() {
    for balancer in balancers() {
        for any in ["[::]:0", "[::1]:0"] {
            let (group, ids) = sticky(any, balancer, 5);
            let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address_of(&group).port());
            assert_each_reaches_its_member(&group, &ids, &[Ipv6Addr::LOCALHOST.into()], to, &[0, 1, 2, 3, 4]);
        }
    }
}

#[test]
fn clients_with_many_ipv6_addresses_are_spread() {
    // In a thread of its own, which gets a network name space of its own.
    std::thread::spawn(|| {
        // SAFETY: the call affects only this thread, and no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return skip("no network name space of its own");
        }
        let add =
            "ip link set lo up && for i in $(seq 1 40); do ip -6 addr add fd00::$i:$i/128 dev lo nodad || exit 1; done";
        if !Command::new("sh").args(["-c", add]).output().unwrap().status.success() {
            return skip("no ip(8), or no IPv6");
        }
        let clients: Vec<IpAddr> = (1..=40).map(|i| format!("fd00::{i}:{i}").parse().unwrap()).collect();
        for balancer in balancers() {
            let (mut group, ids) = sticky("[::]:0", balancer, 4);
            let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address_of(&group).port());
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            let owners: std::collections::HashSet<usize> =
                clients.iter().map(|client| owner(&group, *client, 0..4)).collect();
            assert_eq!(owners.len(), 4, "the clients are spread");
            group.exclude(ids[0]);
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[1, 2, 3]);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn the_deal_of_a_group_can_change() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 4);
        let (clients, to) = (clients(), local(&group));
        ids.iter().enumerate().for_each(|(number, id)| seat(&mut group, *id, number, 0));
        for _ in 0..2 {
            assert_eq!(dealt(&group, 80).len(), 4, "one client, all members");
            group.set_deal(Deal::ByAddress);
            assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            assert_eq!(dealt(&group, 40).len(), 1);
            group.set_deal(Deal::Each);
        }
        assert_eq!((group.balancer(), group.deal()), ((balancer, &Reason::Wanted), Deal::Each));
    }
}

#[test]
fn routes_bypass_the_dealing_by_address() {
    for balancer in balancers() {
        let (mut group, ids) = sticky("[::]:0", balancer, 4);
        group.exclude(ids[2]);
        let to = local(&group);
        for id in &ids {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&socket, &SocketAddr::new(to.ip(), 0)).unwrap();
            let port = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().port();
            group.route(port, *id).unwrap();
            rustix::net::connect(&socket, &to).unwrap();
            assert_eq!(accepted(&group, 1), [*id], "{balancer:?}");
            group.unroute(port);
        }
        assert_each_reaches_its_member(&group, &ids, &clients(), to, &[0, 1, 3]);
    }
}

/// Adopts a group as the next God does, with its record without these fields, as older versions wrote it.
fn adopted(group: Group, without: &[&str]) -> Group {
    let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned().unwrap();
    let mut record = serde_json::to_value(group.record()).unwrap();
    without.iter().for_each(|key| drop(record.as_object_mut().unwrap().remove(*key).unwrap()));
    let sockets = group.members().map(|(id, _)| (id, copy(group.socket(id).unwrap()))).collect();
    let files = group.files().into_iter().map(|(name, file)| (name.to_owned(), copy(file))).collect();
    drop(group);
    Group::adopt(serde_json::from_value(record).unwrap(), sockets, files)
}

#[test]
fn clients_of_an_adopted_group_keep_their_member() {
    for balancer in balancers() {
        let (group, ids) = sticky("127.0.0.1:0", balancer, 4);
        let (clients, to) = (clients(), local(&group));
        let mut group = adopted(group, &[]);
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2, 3]);
        group.exclude(ids[3]);
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

#[test]
fn a_group_of_a_version_without_dealing_by_address_can_use_it() {
    for balancer in balancers() {
        let (old, ids) = group("127.0.0.1:0", balancer, 3);
        let (clients, to) = (clients(), local(&old));
        let mut group = adopted(old, &["deal", "seats"]);
        assert_eq!(dealt(&group, 60).len(), 3);
        ids.iter().enumerate().for_each(|(number, id)| seat(&mut group, *id, number, 0));
        group.set_deal(Deal::ByAddress);
        assert_each_reaches_its_member(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

/// Connections in a queue that closes move to the members that their clients then belong to.
#[test]
fn connections_in_a_closing_queue_move_to_the_member_of_their_client() {
    if !balancers().contains(&KernelBalancing::RoundRobin) {
        return;
    }
    for any in ["127.0.0.1:0", "[::]:0"] {
        let (mut group, ids) = sticky(any, KernelBalancing::RoundRobin, 4);
        if !group.migrates() {
            return skip("no migration before Linux 5.14");
        }
        let to = local(&group);
        let waiting = clients();
        let connect = |from: &IpAddr| {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&socket, &SocketAddr::new(*from, 0)).unwrap();
            rustix::net::connect(&socket, &to).unwrap();
            socket
        };
        // All connections wait in one queue.
        ids[1..].iter().for_each(|id| group.exclude(*id));
        let sockets: Vec<OwnedFd> = waiting.iter().map(connect).collect();
        wait_in(&group, ids[0], sockets.len());
        ids[1..].iter().for_each(|id| group.include(*id));
        group.remove(ids[0]);
        let mut seen = 0;
        for (number, id) in ids.iter().enumerate().skip(1) {
            let listener = group.socket(*id).unwrap();
            while let Ok(connection) = accept_with(listener, SocketFlags::CLOEXEC) {
                let peer = SocketAddr::try_from(rustix::net::getpeername(&connection).unwrap().unwrap()).unwrap();
                assert_eq!(owner(&group, peer.ip().to_canonical(), 1..4), number, "{peer}");
                seen += 1;
            }
        }
        assert_eq!(seen, sockets.len());
    }
}

#[test]
fn datagrams_from_one_address_go_to_one_member() {
    for balancer in balancers() {
        let mut group = Group::new(balancer);
        group.set_deal(Deal::ByAddress);
        let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut ids = Vec::new();
        for number in 0..3 {
            let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap();
            share(&socket).unwrap();
            bind(&socket, &address).unwrap();
            address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
            ids.push(group.add(socket, 0, true).unwrap());
            seat(&mut group, ids[number], number, 0);
        }
        for client in clients() {
            let theirs = ids[owner(&group, client, 0..3)];
            for _ in 0..2 {
                let socket = UdpSocket::bind(SocketAddr::new(client, 0)).unwrap();
                socket.send_to(b"x", address).unwrap();
                let server = UdpSocket::from(group.socket(theirs).unwrap().try_clone_to_owned().unwrap());
                assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip(), client, "{balancer:?}");
            }
        }
    }
}

#[test]
fn few_clients_move_when_a_member_joins_or_leaves_and_only_to_or_from_it() {
    for buckets in [BUCKETS, FEW_BUCKETS] {
        let owner = |bucket: u32, numbers: std::ops::Range<u32>| {
            numbers.max_by_key(|number| affinity(bucket.into(), *number)).unwrap()
        };
        for count in [1, 2, 4, 9] {
            let moved: Vec<u32> = (0..buckets).filter(|at| owner(*at, 0..count) != owner(*at, 0..count + 1)).collect();
            assert!(moved.iter().all(|at| owner(*at, 0..count + 1) == count), "only to the member that joined");
            let fair = f64::from(buckets) / f64::from(count + 1);
            let share = moved.len() as f64 / fair;
            assert!((0.6..1.4).contains(&share), "{count} {buckets}: {share}");
        }
    }
}

#[test]
fn similar_addresses_are_spread_over_the_buckets() {
    let networks: [fn(u8) -> IpAddr; 5] = [
        |i| Ipv4Addr::new(10, 0, 0, i).into(),
        |i| Ipv4Addr::new(i, 0, 0, 1).into(),
        |i| Ipv4Addr::new(192, 168, i, 7).into(),
        |i| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, i.into(), i.into()).into(),
        |i| Ipv6Addr::new(0x2001, 0xdb8, i.into(), 0, 0, 0, 0, 1).into(),
    ];
    for address in networks {
        let found: std::collections::HashSet<u32> = (1..=200).map(|i| bucket(address(i), BUCKETS)).collect();
        // Random numbers would fill 182 buckets.
        assert!(found.len() > 155, "{} {}", address(1), found.len());
    }
}
