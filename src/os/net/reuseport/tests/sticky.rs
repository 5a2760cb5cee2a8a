//! By address: all that comes from one address goes to one member, and few change theirs as members come and go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use super::super::rendezvous::{BUCKETS, FEW_BUCKETS, affinity, bucket};
use super::*;

/// Members of these numbers, each at the place of its number in the list.
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

/// Makes a connection from there, and says whom it went to.
fn reached(group: &Group, from: IpAddr, to: SocketAddr) -> MemberId {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let by = accepted(group, 1);
    assert_eq!(by.len(), 1, "{by:?}");
    by[0]
}

/// Who of these a client belongs to, by its number.
fn owner(group: &Group, client: IpAddr, numbers: impl IntoIterator<Item = usize>) -> usize {
    let buckets = if group.balancer().0 == KernelBalancing::RoundRobin { BUCKETS } else { FEW_BUCKETS };
    let bucket = u64::from(bucket(client, buckets));
    numbers.into_iter().max_by_key(|number| affinity(bucket, u32::try_from(*number).unwrap())).unwrap()
}

/// Every client of these reaches whom it belongs to among those with these numbers, each time.
#[track_caller]
fn all_reach_theirs(group: &Group, ids: &[MemberId], clients: &[IpAddr], to: SocketAddr, numbers: &[usize]) {
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
fn clients_keep_their_member_and_move_only_while_it_is_out() {
    for any in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        for balancer in balancers() {
            let (mut group, ids) = sticky(any, balancer, 4);
            let (clients, to) = (clients(), local(&group));
            all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            let mut by: HashMap<usize, usize> = HashMap::new();
            clients.iter().for_each(|client| *by.entry(owner(&group, *client, 0..4)).or_default() += 1);
            assert!(by.len() == 4 && by.values().all(|count| (8..=40).contains(count)), "{by:?}");
            group.exclude(ids[2]);
            all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 3]);
            group.include(ids[2]);
            group.remove(ids[0]);
            all_reach_theirs(&group, &ids, &clients, to, &[1, 2, 3]);
            assert_eq!(
                group.dealt().is_some(),
                balancer == KernelBalancing::RoundRobin,
                "they are counted all the same"
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
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2]);
        group.include(new);
        ids[1] = new;
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2]);
        group.exclude(old);
        group.remove(old);
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

#[test]
fn one_without_a_seat_has_all_clients_alone_and_none_beside_others() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 2);
        group.set_deal(Deal::ByAddress);
        let (clients, to) = (clients(), local(&group));
        assert!(clients.iter().all(|client| reached(&group, *client, to) == ids[1]), "one of such");
        seat(&mut group, ids[0], 7, 0);
        assert!(clients.iter().all(|client| reached(&group, *client, to) == ids[0]));
        group.exclude(ids[0]);
        assert!(clients.iter().all(|client| reached(&group, *client, to) == ids[1]));
    }
}

#[test]
fn both_versions_of_ip_on_one_socket() {
    for balancer in balancers() {
        for any in ["[::]:0", "[::1]:0"] {
            let (group, ids) = sticky(any, balancer, 5);
            let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address_of(&group).port());
            all_reach_theirs(&group, &ids, &[Ipv6Addr::LOCALHOST.into()], to, &[0, 1, 2, 3, 4]);
        }
    }
}

#[test]
fn many_addresses_of_ipv6() {
    // In a thread of its own, which has a network of its own from then on.
    std::thread::spawn(|| {
        // SAFETY: it concerns this thread alone, and no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return skip("no network name space of our own");
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
            all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            let owners: std::collections::HashSet<usize> =
                clients.iter().map(|client| owner(&group, *client, 0..4)).collect();
            assert_eq!(owners.len(), 4, "they are spread");
            group.exclude(ids[0]);
            all_reach_theirs(&group, &ids, &clients, to, &[1, 2, 3]);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn how_it_is_dealt_can_change() {
    for balancer in balancers() {
        let (mut group, ids) = group("127.0.0.1:0", balancer, 4);
        let (clients, to) = (clients(), local(&group));
        ids.iter().enumerate().for_each(|(number, id)| seat(&mut group, *id, number, 0));
        for _ in 0..2 {
            assert_eq!(dealt(&group, 80).len(), 4, "one client, all members");
            group.set_deal(Deal::ByAddress);
            all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2, 3]);
            assert_eq!(dealt(&group, 40).len(), 1);
            group.set_deal(Deal::Each);
        }
        assert_eq!((group.balancer(), group.deal()), ((balancer, &Reason::Wanted), Deal::Each));
    }
}

#[test]
fn our_own_connections_still_go_past_it() {
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
        all_reach_theirs(&group, &ids, &clients(), to, &[0, 1, 3]);
    }
}

/// As the next God does it, with a record of this version or one of before there was such a thing.
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
fn the_next_owner_sends_clients_where_the_last_one_did() {
    for balancer in balancers() {
        let (group, ids) = sticky("127.0.0.1:0", balancer, 4);
        let (clients, to) = (clients(), local(&group));
        let mut group = adopted(group, &[]);
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2, 3]);
        group.exclude(ids[3]);
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

#[test]
fn a_group_of_a_version_that_could_not_can_be_dealt_so() {
    for balancer in balancers() {
        let (old, ids) = group("127.0.0.1:0", balancer, 3);
        let (clients, to) = (clients(), local(&old));
        let mut group = adopted(old, &["deal", "seats"]);
        assert_eq!(dealt(&group, 60).len(), 3);
        ids.iter().enumerate().for_each(|(number, id)| seat(&mut group, *id, number, 0));
        group.set_deal(Deal::ByAddress);
        all_reach_theirs(&group, &ids, &clients, to, &[0, 1, 2]);
    }
}

/// What waits in a queue that closes goes to whom each client then belongs to.
#[test]
fn who_waits_in_a_queue_that_closes_goes_on_to_his_own() {
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
        // All of them wait in one queue.
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
fn datagrams_by_address() {
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
fn few_clients_move_when_one_comes_or_goes_and_none_to_where_they_need_not() {
    for buckets in [BUCKETS, FEW_BUCKETS] {
        let owner = |bucket: u32, numbers: std::ops::Range<u32>| {
            numbers.max_by_key(|number| affinity(bucket.into(), *number)).unwrap()
        };
        for count in [1, 2, 4, 9] {
            let moved: Vec<u32> = (0..buckets).filter(|at| owner(*at, 0..count) != owner(*at, 0..count + 1)).collect();
            assert!(moved.iter().all(|at| owner(*at, 0..count + 1) == count), "only to the one that came");
            let fair = f64::from(buckets) / f64::from(count + 1);
            let share = moved.len() as f64 / fair;
            assert!((0.6..1.4).contains(&share), "{count} {buckets}: {share}");
        }
    }
}

#[test]
fn addresses_that_are_alike_are_spread_over_the_buckets() {
    let networks: [fn(u8) -> IpAddr; 5] = [
        |i| Ipv4Addr::new(10, 0, 0, i).into(),
        |i| Ipv4Addr::new(i, 0, 0, 1).into(),
        |i| Ipv4Addr::new(192, 168, i, 7).into(),
        |i| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, i.into(), i.into()).into(),
        |i| Ipv6Addr::new(0x2001, 0xdb8, i.into(), 0, 0, 0, 0, 1).into(),
    ];
    for address in networks {
        let found: std::collections::HashSet<u32> = (1..=200).map(|i| bucket(address(i), BUCKETS)).collect();
        // By chance it would be 182.
        assert!(found.len() > 155, "{} {}", address(1), found.len());
    }
}
