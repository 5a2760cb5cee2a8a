//! UDP sockets. No call shows when a worker begins to read, so the owner of the queues reports it.

use std::net::UdpSocket;

use rustix::net::{RecvFlags, recv};

use super::*;

/// Sends `count` datagrams, each from another port, so that the kernel distributes them.
fn send(address: SocketAddr, count: usize) {
    for _ in 0..count {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"?", address).unwrap();
    }
}

impl Program {
    /// Reads all datagrams and returns their number. On the loopback they have arrived when `send_to` returns.
    fn read(&self) -> usize {
        let mut buffer = [0; 8];
        std::iter::from_fn(|| recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT).ok()).count()
    }
}

#[test]
fn datagrams_go_to_workers_that_have_set_up_their_socket() {
    play(async {
        for balancer in BOTH {
            let stage = Stage::new(balancer);
            let address = SocketAddr::from(([127, 0, 0, 1], crate::os::ports::free_port()));
            let one = stage.bind_datagrams(1, address);
            send(address, 20);
            assert_eq!(one.read(), 20, "no other worker has a socket here");
            let key = stage.key();
            assert_eq!(stage.queues.unread_datagram_keys(one.run), [key]);
            assert!(stage.queues.reads(one.run, &key));
            assert_eq!(
                (stage.queues.unread_datagram_keys(one.run), stage.queues.listening_keys(one.run)),
                (vec![], vec![key])
            );
            let two = stage.bind_datagrams(2, address);
            send(address, 40);
            assert_eq!((one.read(), two.read()), (40, 0));
            let stage = stage.restart_god().await;
            send(address, 40);
            assert_eq!((one.read(), two.read()), (40, 0), "the next God keeps it out of rotation, too");
            assert!(stage.queues.reads(two.run, &key));
            send(address, 60);
            let (first, second) = (one.read(), two.read());
            assert!(first + second == 60 && first > 5 && second > 5, "{first} {second}");
            stage.queues.gone(two.run);
            assert!(!stage.queues.reads(two.run, &key));
        }
    });
}
