//! Connections that bypass the rotation: each goes to the member of its route, whatever other connections are dealt.

use std::net::{IpAddr, Ipv6Addr};

use super::super::program::ROUTES;
use super::*;

/// A socket that is bound to a port of its own.
fn client(at: SocketAddr) -> (OwnedFd, u16) {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::new(at.ip(), 0)).unwrap();
    let port = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().port();
    (socket, port)
}

fn key_of(group: &Group) -> Key {
    let (first, _) = group.members().next().unwrap();
    Key::of(group.socket(first).unwrap()).unwrap().unwrap()
}

#[test]
fn a_routed_connection_goes_to_its_member_in_rotation_or_not() {
    for any in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        for balancer in balancers() {
            let (mut group, ids) = group(any, balancer, 4);
            group.exclude(ids[1]);
            group.exclude(ids[3]);
            for to in key_of(&group).reachable() {
                for id in &ids {
                    let (client, port) = client(to);
                    let order = group.route(port, *id).unwrap();
                    rustix::net::connect(&client, &to).unwrap();
                    assert!(group.is_in(order));
                    assert_eq!(accepted(&group, 1), [*id], "{any} {to} {balancer:?}");
                    group.unroute(port);
                }
            }
            let got = dealt(&group, 40);
            assert!(got.len() == 2 && got.contains_key(&ids[0]) && got.contains_key(&ids[2]), "{any} {got:?}");
        }
    }
}

#[test]
fn several_routes_work_at_once_and_other_connections_are_dealt() {
    for any in ["127.0.0.1:0", "[::]:0"] {
        for balancer in balancers() {
            let (mut group, ids) = group(any, balancer, 3);
            group.exclude(ids[2]);
            let to = key_of(&group).reachable()[0];
            let clients: Vec<_> = (0..ROUTES).map(|_| client(to)).collect();
            for (number, (_, port)) in clients.iter().enumerate() {
                group.route(*port, ids[number % 3]).unwrap();
            }
            assert_eq!(group.route(1, ids[0]), Err(Unroutable::NotNow), "all routes are in use");
            let got = dealt(&group, 60);
            assert!(got.len() == 2 && !got.contains_key(&ids[2]), "{any} {balancer:?} {got:?}");
            for (number, (client, _)) in clients.iter().enumerate().rev() {
                rustix::net::connect(client, &to).unwrap();
                assert_eq!(accepted(&group, 1), [ids[number % 3]], "{any} {balancer:?} {number}");
            }
            clients.iter().for_each(|(_, port)| group.unroute(*port));
            assert!(group.dealt().is_none_or(|dealt| dealt == 60), "a routed connection does not count as dealt");
        }
    }
}

/// A client with the same port at another address of this machine.
#[test]
fn a_route_does_not_apply_to_its_port_at_another_address() {
    for any in ["0.0.0.0:0", "[::]:0"] {
        for balancer in balancers() {
            let (mut group, ids) = group(any, balancer, 2);
            group.exclude(ids[1]);
            let to: SocketAddr = format!("127.0.0.1:{}", address_of(&group).port()).parse().unwrap();
            let stranger = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&stranger, &"127.0.0.2:0".parse::<SocketAddr>().unwrap()).unwrap();
            let port = SocketAddr::try_from(getsockname(&stranger).unwrap()).unwrap().port();
            group.route(port, ids[1]).unwrap();
            rustix::net::connect(&stranger, &to).unwrap();
            assert_eq!(accepted(&group, 1), [ids[0]], "{any} {balancer:?}");
        }
    }
}

#[test]
fn a_departure_changes_the_order_and_a_route_needs_a_known_index() {
    let (mut group, ids) = group("127.0.0.1:0", KernelBalancing::Random, 5);
    let order = group.route(1, ids[3]).unwrap();
    shutdown(group.socket(ids[1]).unwrap(), Shutdown::Both).unwrap();
    assert!(!group.is_in(order), "the last member has moved");
    let to = address_of(&group);
    let (own, port) = client(to);
    group.route(port, ids[3]).unwrap();
    rustix::net::connect(&own, &to).unwrap();
    assert_eq!(accepted(&group, 1), [ids[3]]);
    // Two members leave in an unknown order.
    let new = add(&mut group);
    [ids[0], ids[2]].iter().for_each(|id| shutdown(group.socket(*id).unwrap(), Shutdown::Both).unwrap());
    assert_eq!(group.route(port, new), Err(Unroutable::NotNow));
    assert_eq!(group.route(port, ids[0]), Err(Unroutable::Never), "it is no member any more");
}

#[test]
fn an_adopted_group_has_no_old_routes_and_takes_new_ones() {
    for balancer in balancers() {
        // Also with the balancer of a version that had no routes.
        for old in [false, true] {
            let (mut group, ids) = group("127.0.0.1:0", balancer, 3);
            let to = address_of(&group);
            group.exclude(ids[2]);
            let ((stale, stale_port), (own, port)) = (client(to), client(to));
            group.route(stale_port, ids[2]).unwrap();
            let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned().unwrap();
            let sockets = ids.iter().map(|id| (*id, copy(group.socket(*id).unwrap()))).collect();
            let files = group.files().into_iter().filter(|(name, _)| !old || *name != "routes");
            let files = files.map(|(name, file)| (name.to_owned(), copy(file))).collect();
            let record = group.record();
            drop(group);
            let mut next = Group::adopt(record, sockets, files);
            assert_eq!(next.balancer(), (balancer, &Reason::Wanted));
            rustix::net::connect(&stale, &to).unwrap();
            assert_ne!(accepted(&next, 1), [ids[2]], "{balancer:?} {old}");
            next.route(port, ids[2]).unwrap();
            rustix::net::connect(&own, &to).unwrap();
            assert_eq!(accepted(&next, 1), [ids[2]], "{balancer:?} {old}");
            let got = dealt(&next, 40);
            assert!(got.len() == 2 && !got.contains_key(&ids[2]), "{balancer:?} {old} {got:?}");
        }
    }
}

#[test]
fn the_hash_allows_no_routes() {
    let (mut group, ids) = group("127.0.0.1:0", KernelBalancing::Hash, 2);
    assert_eq!(group.route(1, ids[0]), Err(Unroutable::Never));
}

#[test]
fn a_key_is_reached_at_its_addresses() {
    let (group, _) = group("[::]:0", KernelBalancing::Hash, 1);
    let key = key_of(&group);
    let port = key.address.port();
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    assert_eq!(key.reachable(), [v6, SocketAddr::new("127.0.0.1".parse().unwrap(), port)]);
    let mut only = key;
    only.v6only = true;
    assert_eq!(only.reachable(), [v6]);
    assert!(key.is_reachable_from(client(v6).0));
}
