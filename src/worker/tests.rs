//! The library against a daemon that the test simulates.

use std::future::Future;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::*;
use crate::protocol::{FromDaemon, FromWorker, PACKET, Status, VERSION};

/// Longer than any of these tests takes. A test that takes longer has hung.
const TIME_LIMIT: Duration = Duration::from_secs(60);

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(TIME_LIMIT, test).await.expect("the test hung") };
    runtime.block_on(test);
}

/// The daemon's end of the channel, and the listener that the daemon owns.
struct Daemon {
    socket: AsyncFd<OwnedFd>,
    listener: TcpListener,
    last: u64,
}

impl Daemon {
    /// With a worker that has sent HELLO.
    async fn greeted() -> (Daemon, Arc<Channel>) {
        let (ours, theirs) = packets::pair().unwrap();
        let channel = Channel::open(theirs).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let daemon = Daemon { socket: rights::watch(ours).unwrap(), listener, last: 0 };
        assert_eq!(daemon.receive().await, FromWorker::Hello { version: VERSION }.encode());
        (daemon, channel)
    }

    /// With a worker that listens.
    async fn serving() -> (Daemon, Arc<Channel>, Listener) {
        let (daemon, channel) = Daemon::greeted().await;
        daemon.send(&FromDaemon::Welcome { version: VERSION, most: 16 });
        let listening = daemon.listen(&channel, 0).await;
        daemon.send(&FromDaemon::Listening { index: 0, errno: 0, address: "127.0.0.1:80" });
        let listener = listening.await.unwrap().unwrap();
        assert_eq!(listener.local_addr().unwrap(), Address::Ip(([127, 0, 0, 1], 80).into()));
        assert_eq!(daemon.status().await, Status { credit: 16, ..Status::default() });
        (daemon, channel, listener)
    }

    /// The worker sends LISTEN.
    async fn listen(&self, channel: &Arc<Channel>, index: u32) -> JoinHandle<io::Result<Listener>> {
        let channel = Arc::clone(channel);
        let listening = tokio::spawn(async move { listener_on(&channel, "127.0.0.1:0").await });
        let request = FromWorker::Listen { index, backlog: 0, address: "127.0.0.1:0" };
        assert_eq!(self.receive().await, request.encode());
        listening
    }

    fn send(&self, message: &FromDaemon<'_>) {
        packets::send(&self.socket, &message.encode(), &[]).unwrap();
    }

    /// The next packet of the worker; empty at the end.
    async fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; PACKET];
        let receive = || packets::receive(self.socket.get_ref(), &mut buffer);
        let mut receive = receive;
        let (count, _) = self.socket.async_io(tokio::io::Interest::READABLE, |_| receive()).await.unwrap();
        buffer[..count].to_vec()
    }

    async fn status(&self) -> Status {
        match FromWorker::decode(&self.receive().await) {
            Ok(FromWorker::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Connects `count` clients and sends their connections in one message.
    fn deal(&mut self, index: u32, count: usize) -> Vec<TcpStream> {
        let clients: Vec<_> =
            (0..count).map(|_| TcpStream::connect(self.listener.local_addr().unwrap()).unwrap()).collect();
        let accepted: Vec<_> = clients.iter().map(|_| self.listener.accept().unwrap().0).collect();
        let files: Vec<_> = accepted.iter().map(AsFd::as_fd).collect();
        let numbers = (0..count as u64).map(|n| self.last + 2 * n + 1).collect();
        self.last += 2 * count as u64;
        packets::send(&self.socket, &FromDaemon::Connections { index, numbers }.encode(), &files).unwrap();
        clients
    }
}

#[test]
fn the_worker_reports_a_connection_when_the_app_accepts_it_and_when_it_ends() {
    run(async {
        let (mut daemon, _channel, mut listener) = Daemon::serving().await;
        let mut clients = daemon.deal(0, 2);
        let (mut first, peer) = listener.accept().await;
        assert_eq!(peer, Address::Ip(clients[0].local_addr().unwrap()));
        assert_eq!(daemon.status().await, Status { open: 1, credit: 16, taken: 1, token: 0 });
        clients[0].write_all(b"x").unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'x');
        drop(first);
        assert_eq!(daemon.status().await, Status { open: 0, credit: 16, taken: 1, token: 0 });
        let _second = listener.accept().await;
        assert_eq!(daemon.status().await.taken, 3);
    });
}

#[test]
fn the_worker_answers_sync_while_the_app_accepts_nothing() {
    run(async {
        let (mut daemon, _channel, _listener) = Daemon::serving().await;
        let _client = daemon.deal(0, 1);
        daemon.send(&FromDaemon::Sync { token: 7 });
        assert_eq!(
            daemon.status().await,
            Status { credit: 16, token: 7, ..Status::default() },
            "the app has accepted none"
        );
    });
}

#[test]
fn draining_ends_after_the_first_bytes_of_the_client_and_drained_is_sent_after_the_connection() {
    run(async {
        let (mut daemon, channel, mut listener) = Daemon::serving().await;
        let mut clients = daemon.deal(0, 1);
        let (mut stream, _) = listener.accept().await;
        daemon.status().await;
        daemon.send(&FromDaemon::Drain);
        let mut draining = std::pin::pin!(channel.draining());
        tokio::select! {
            // If both are ready, a busy machine has delayed the test for longer than the first bytes are waited for.
            biased;
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = &mut draining => panic!("a request is on its way"),
        }
        clients[0].write_all(b"x").unwrap();
        stream.read_u8().await.unwrap();
        draining.await;
        drop(stream);
        assert_eq!(daemon.status().await.open, 0);
        assert_eq!(daemon.receive().await, FromWorker::Drained.encode());
    });
}

#[test]
fn drained_waits_until_the_clients_have_closed_their_connections_and_no_longer() {
    run(async {
        // On a busy machine the last client may take longer than the limit.
        while time_to_close().await >= Duration::from_secs(1) {}
    });
}

/// How long `drained` takes while two clients close their connections.
async fn time_to_close() -> Duration {
    let (mut daemon, channel, mut listener) = Daemon::serving().await;
    let _clients = daemon.deal(0, 2);
    let (first, _) = listener.accept().await;
    assert!(!channel.is_draining_or_ended());
    daemon.send(&FromDaemon::Drain);
    let start = tokio::time::Instant::now();
    channel.drain_requested().await;
    assert!(channel.is_draining_or_ended());
    let mut drained = std::pin::pin!(channel.drained());
    tokio::select! {
        biased;
        () = &mut drained => panic!("one connection is open, and one was not accepted"),
        (second, _) = listener.accept() => drop((first, second)),
    }
    drained.await;
    let took = start.elapsed();
    let _idle = (daemon.deal(0, 1), listener.accept().await);
    channel.drained().await;
    took
}

#[test]
fn a_dropped_listener_returns_the_connections_that_it_has_not_accepted() {
    run(async {
        let (mut daemon, _channel, mut listener) = Daemon::serving().await;
        let _clients = daemon.deal(0, 3);
        let _first = listener.accept().await;
        assert_eq!(daemon.status().await.taken, 1);
        drop(listener);
        assert_eq!(daemon.receive().await, FromWorker::Close { index: 0 }.encode());
        assert_eq!(daemon.receive().await, FromWorker::Refuse { number: 3 }.encode());
        assert_eq!(daemon.receive().await, FromWorker::Refuse { number: 5 }.encode());
        let _late = daemon.deal(0, 1);
        assert_eq!(daemon.receive().await, FromWorker::Refuse { number: 7 }.encode());
    });
}

#[test]
fn accept_skips_a_connection_that_the_client_has_reset() {
    run(async {
        let (mut daemon, _channel, mut listener) = Daemon::serving().await;
        for client in daemon.deal(0, 1) {
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        let clients = daemon.deal(0, 1);
        assert_eq!(listener.accept().await.1, Address::Ip(clients[0].local_addr().unwrap()));
    });
}

#[test]
fn a_failed_bind_and_an_unknown_version_are_errors_with_a_reason() {
    run(async {
        let (daemon, channel, _listener) = Daemon::serving().await;
        let listening = daemon.listen(&channel, 1).await;
        daemon.send(&FromDaemon::Listening { index: 1, errno: 98, address: "" });
        assert_eq!(listening.await.unwrap().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(listener("nowhere").await.unwrap_err().to_string(), "`nowhere` is no address");

        let (daemon, channel) = Daemon::greeted().await;
        daemon.send(&FromDaemon::Unwelcome { oldest: 2, newest: 3 });
        let error = listener_on(&channel, "127.0.0.1:0").await.unwrap_err().to_string();
        assert_eq!(error, "the daemon speaks versions 2 to 3 of the worker protocol, this program 1");
    });
}

#[test]
fn the_worker_drains_and_accepts_nothing_when_the_channel_ends() {
    run(async {
        let (daemon, channel, mut listener) = Daemon::serving().await;
        drop(daemon);
        channel.draining().await;
        let waits = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
        assert!(waits.is_err(), "accept waits for ever");
        assert!(channel.ready().await.is_err());
    });
}

#[test]
fn without_pmr_the_listener_binds_itself() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s").display().to_string();
        for address in ["127.0.0.1:0", ":0", &path] {
            let mut listener = listener(address).await.unwrap();
            match listener.local_addr().unwrap() {
                Address::Ip(at) => drop(TcpStream::connect(("127.0.0.1", at.port())).unwrap()),
                Address::Path(at) => drop(std::os::unix::net::UnixStream::connect(at).unwrap()),
            }
            let (mut stream, _) = listener.accept().await;
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
        ready().await.unwrap();
    });
}
