//! The worker's end of pmr's own protocol.
//!
//! One task reads the channel for the life of the process, so that the worker handles DRAIN and SYNC whatever the app
//! does. Connections wait in the queue of their listener until the app accepts them. Only then does the worker report
//! them as taken, so connections that the app has not accepted go to another worker if this one dies.

mod connections;
mod listener;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

use self::connections::Connections;
pub(super) use self::connections::OpenConnection;
pub(super) use self::listener::ChannelListener;
use crate::os::{packets, rights};
use crate::protocol::{FromDaemon, FromWorker, MOST, PACKET, Status, VERSION};

/// Longest delay before the end of a connection is reported, so that several ends share one message.
const REPORT_DELAY: Duration = Duration::from_millis(5);
/// How long a draining worker waits for the first bytes of clients that have sent nothing yet.
const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(1);
/// How long a draining worker waits for clients to close their connections. Clients of a server under load send their
/// next request well before that.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The connection to the daemon; see the module.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    state: Mutex<ChannelState>,
    phase: watch::Sender<Phase>,
    /// Notified when a connection or a listener has ended.
    ended: Notify,
    connections: watch::Sender<Connections>,
}

/// State of the channel; it only moves forward, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// HELLO was sent and not answered yet.
    Greeting,
    Serving,
    Draining,
    /// The daemon speaks other versions.
    Unwelcome {
        oldest: u16,
        newest: u16,
    },
    /// The daemon has closed the channel.
    Ended,
}

#[derive(Debug, Default)]
struct ChannelState {
    /// The index is the number of the listener.
    queues: Vec<Queue>,
    /// Number of the last connection that the app has accepted.
    taken: u64,
    /// Token of the last SYNC.
    token: u64,
    /// Connections that are open in the app.
    open: u32,
    /// The last STATUS that was sent.
    reported: Status,
    /// DRAINED was sent after the last DRAIN.
    reported_drained: bool,
}

/// Connections of one listener that the app has not accepted.
#[derive(Debug, Default)]
struct Queue {
    /// Their numbers and sockets, the oldest first.
    waiting: VecDeque<(u64, OwnedFd)>,
    /// Notified when a connection has arrived.
    arrival: Arc<Notify>,
    /// Where the answer to LISTEN goes, until it has arrived.
    answer: Option<oneshot::Sender<io::Result<String>>>,
    closed: bool,
}

impl Channel {
    /// Sends HELLO, and starts the tasks that read and report. Must be called inside the runtime.
    pub(super) fn open(socket: OwnedFd) -> io::Result<Arc<Channel>> {
        let socket = rights::watch(socket)?;
        packets::send(&socket, &FromWorker::Hello { version: VERSION }.encode(), &[])?;
        let (phase, connections) = (watch::Sender::new(Phase::Greeting), watch::Sender::default());
        let channel = Arc::new(Channel { socket, state: Mutex::default(), phase, ended: Notify::new(), connections });
        tokio::spawn(read(Arc::clone(&channel)));
        tokio::spawn(report_ends(Arc::clone(&channel)));
        Ok(channel)
    }

    /// Requests a listener at this address. Returns the listener and its real address.
    pub(super) async fn listen(self: &Arc<Self>, address: &str) -> io::Result<(ChannelListener, String)> {
        self.greeted().await?;
        let (sender, answer) = oneshot::channel();
        let (index, arrival) = {
            let mut state = self.lock();
            let queue = Queue { answer: Some(sender), ..Queue::default() };
            let arrival = Arc::clone(&queue.arrival);
            state.queues.push(queue);
            (state.queues.len() - 1, arrival)
        };
        let listener = ChannelListener { channel: Arc::clone(self), index, arrival };
        self.send(&FromWorker::Listen { index: number(index), backlog: 0, address }).await?;
        let address = answer.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))??;
        self.report().await?;
        Ok((listener, address))
    }

    /// Sends READY.
    pub(super) async fn ready(&self) -> io::Result<()> {
        self.greeted().await?;
        self.send(&FromWorker::Ready).await
    }

    /// Ends when the daemon drains the worker or is gone for good, and no accepted connection waits for its first
    /// bytes. A server that shuts down closes connections on which it has read nothing, although a request may be on
    /// its way.
    pub(super) async fn draining(&self) {
        self.drain_requested().await;
        self.wait_for(FIRST_BYTES_LIMIT, |connections| connections.silent == 0).await;
    }

    /// Ends when the daemon drains the worker or is gone for good, and all connections are closed or have had time for
    /// that.
    pub(super) async fn drained(&self) {
        self.drain_requested().await;
        self.wait_for(CLOSE_LIMIT, |connections| connections.open == 0).await;
    }

    /// True if the daemon drains the worker, refuses it, or is gone for good.
    pub(super) fn is_draining_or_ended(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Waits until [`Channel::is_draining_or_ended`].
    pub(super) async fn drain_requested(&self) {
        // Cannot fail: the sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until the app has accepted all connections and `condition` holds for them, for at most `limit`.
    async fn wait_for(&self, limit: Duration, condition: impl Fn(&Connections) -> bool) {
        let mut connections = self.connections.subscribe();
        let settled = connections.wait_for(|connections| condition(connections) && self.lock().none_waits());
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// Waits for the answer to HELLO.
    async fn greeted(&self) -> io::Result<()> {
        let mut phase = self.phase.subscribe();
        let phase = phase.wait_for(|phase| *phase > Phase::Greeting).await.map(|phase| *phase);
        match phase {
            Ok(Phase::Unwelcome { oldest, newest }) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the daemon speaks versions {oldest} to {newest} of the worker protocol, this program {VERSION}"
                ),
            )),
            Ok(Phase::Ended) | Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(Phase::Greeting | Phase::Serving | Phase::Draining) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        // No code that holds the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| std::mem::replace(phase, to.max(*phase)) < to);
    }

    fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// Sends a message as soon as the socket has room.
    async fn send(&self, message: &FromWorker<'_>) -> io::Result<()> {
        self.when_writable(|| packets::send(&self.socket, &message.encode(), &[])).await
    }

    /// Sends STATUS if it has changed, and DRAINED if it is due.
    async fn report(&self) -> io::Result<()> {
        self.when_writable(|| self.try_report(&mut self.lock())).await
    }

    async fn when_writable<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.socket.async_io(Interest::WRITABLE, |_| attempt()).await
    }

    fn try_report(&self, state: &mut ChannelState) -> io::Result<()> {
        let status = state.status();
        if status != state.reported {
            packets::send(&self.socket, &FromWorker::Status(status).encode(), &[])?;
            state.reported = status;
        }
        if self.is_draining() && state.is_empty() && !state.reported_drained {
            packets::send(&self.socket, &FromWorker::Drained.encode(), &[])?;
            state.reported_drained = true;
        }
        Ok(())
    }

    async fn received(&self, packet: &[u8], files: Vec<OwnedFd>) -> io::Result<()> {
        // An unknown message is from a newer daemon and is ignored, as the protocol demands.
        let Ok(message) = FromDaemon::decode(packet) else { return Ok(()) };
        match message {
            FromDaemon::Welcome { .. } => self.advance(Phase::Serving),
            FromDaemon::Unwelcome { oldest, newest } => self.advance(Phase::Unwelcome { oldest, newest }),
            FromDaemon::Listening { index, errno, address } => {
                let answer = match errno {
                    0 => Ok(address.to_owned()),
                    errno => Err(io::Error::from_raw_os_error(errno.into())),
                };
                let waiting = self.lock().queue(index).and_then(|queue| queue.answer.take());
                // Fails if the app has dropped the future of `listen` meanwhile.
                let _ = waiting.map(|waiting| waiting.send(answer));
            }
            FromDaemon::Connections { index, numbers } => self.arrived(index, numbers, files).await?,
            FromDaemon::Sync { token } => {
                self.lock().token = token;
                self.report().await?;
            }
            FromDaemon::Drain => {
                self.advance(Phase::Draining);
                self.lock().reported_drained = false;
                self.report().await?;
            }
        }
        Ok(())
    }

    async fn arrived(&self, index: u32, numbers: Vec<u64>, files: Vec<OwnedFd>) -> io::Result<()> {
        let connections = numbers.into_iter().zip(files);
        let unwanted: Vec<u64> = {
            let mut state = self.lock();
            match state.queue(index).filter(|queue| !queue.closed) {
                Some(queue) => {
                    queue.waiting.extend(connections);
                    queue.arrival.notify_one();
                    return Ok(());
                }
                None => connections.map(|(number, _)| number).collect(),
            }
        };
        for number in unwanted {
            self.send(&FromWorker::Refuse { number }).await?;
        }
        Ok(())
    }
}

impl ChannelState {
    fn status(&self) -> Status {
        let credit = u32::try_from(MOST).unwrap_or(1);
        Status { open: self.open, credit, taken: self.taken, token: self.token }
    }

    fn queue(&mut self, index: u32) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(index).ok()?)
    }

    /// True if no connection is open in the app or waits to be accepted.
    fn is_empty(&self) -> bool {
        self.open == 0 && self.none_waits()
    }

    /// True if no connection waits to be accepted.
    fn none_waits(&self) -> bool {
        self.queues.iter().all(|queue| queue.waiting.is_empty())
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Reads the channel until it ends.
async fn read(channel: Arc<Channel>) {
    let mut buffer = [0; PACKET];
    loop {
        let Ok(mut ready) = channel.socket.readable().await else { break };
        match ready.try_io(|socket| packets::receive(socket.get_ref(), &mut buffer)) {
            Ok(Ok((0, _))) => break,
            Ok(Ok((count, files))) => {
                if channel.received(&buffer[..count], files).await.is_err() {
                    break;
                }
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    channel.advance(Phase::Ended);
    // No LISTEN is answered any more: those that wait for an answer get an error.
    channel.lock().queues.iter_mut().for_each(|queue| drop(queue.answer.take()));
}

/// Reports the ends of connections, several in one message where possible.
async fn report_ends(channel: Arc<Channel>) {
    loop {
        channel.ended.notified().await;
        if !channel.is_draining() {
            tokio::time::sleep(REPORT_DELAY).await;
        }
        if channel.report().await.is_err() {
            return;
        }
    }
}
