//! The worker's end of pmr's own protocol.
//!
//! One task reads the channel as long as the process lives, so that a drain or a question of the daemon is heard whatever
//! the app does. Connections wait in the queue of their listener until the app accepts them; only then is the daemon told
//! that they are taken, so what the app has not accepted goes to another worker when this one dies.

mod door;
mod guest;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

pub(super) use self::door::Door;
pub(super) use self::guest::Guest;
use self::guest::Guests;
use crate::os::net::{fdpass, packets};
use crate::protocol::channel::{FromDaemon, FromWorker, MOST, PACKET, Status, VERSION};

/// News of ended connections are told together, after this time at the latest.
const TOGETHER: Duration = Duration::from_millis(5);
/// How long the first word of a client is waited for when the worker is to finish.
const SILENCE: Duration = Duration::from_secs(1);
/// How long clients have to leave by themselves. Those of a server under load ask again well before.
const FAREWELL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    inner: Mutex<Inner>,
    stage: watch::Sender<Stage>,
    /// A connection has ended.
    ended: Notify,
    guests: watch::Sender<Guests>,
}

/// How far the channel is along its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Greeting,
    Serving,
    Draining,
    /// The daemon speaks other versions.
    Unwelcome {
        oldest: u16,
        newest: u16,
    },
    Ended,
}

#[derive(Debug, Default)]
struct Inner {
    doors: Vec<Queue>,
    taken: u64,
    token: u64,
    open: u32,
    /// What the daemon was told last.
    told: Status,
    told_drained: bool,
}

/// Connections of one listener that the app has not accepted.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u64, OwnedFd)>,
    news: Arc<Notify>,
    /// Who waits for the answer to LISTEN.
    asker: Option<oneshot::Sender<io::Result<String>>>,
    closed: bool,
}

impl Channel {
    /// Says hello, and goes on reading. Must be called inside the runtime.
    pub(super) fn open(socket: OwnedFd) -> io::Result<Arc<Channel>> {
        let socket = fdpass::watch(socket)?;
        packets::send(&socket, &FromWorker::Hello { version: VERSION }.encode(), &[])?;
        let (stage, guests) = (watch::Sender::new(Stage::Greeting), watch::Sender::default());
        let channel = Arc::new(Channel { socket, inner: Mutex::default(), stage, ended: Notify::new(), guests });
        tokio::spawn(read(Arc::clone(&channel)));
        tokio::spawn(tell_of_ends(Arc::clone(&channel)));
        Ok(channel)
    }

    /// Asks to listen there. Returns the listener and its real address.
    pub(super) async fn listen(self: &Arc<Self>, address: &str) -> io::Result<(Door, String)> {
        self.greeted().await?;
        let (asker, answer) = oneshot::channel();
        let (index, news) = {
            let mut inner = self.lock();
            let queue = Queue { asker: Some(asker), ..Queue::default() };
            let news = Arc::clone(&queue.news);
            inner.doors.push(queue);
            (inner.doors.len() - 1, news)
        };
        let door = Door { channel: Arc::clone(self), index, news };
        self.say(&FromWorker::Listen { index: number(index), backlog: 0, address }).await?;
        let address = answer.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))??;
        self.tell().await?;
        Ok((door, address))
    }

    /// Tells that the app is ready.
    pub(super) async fn ready(&self) -> io::Result<()> {
        self.greeted().await?;
        self.say(&FromWorker::Ready).await
    }

    /// Ends when the daemon wants us to finish, or is gone for good. A server that shuts down closes connections on
    /// which it has read nothing, though their request is on its way: it is told when there are none.
    pub(super) async fn draining(&self) {
        self.told_to_leave().await;
        self.guests_are(SILENCE, |guests| guests.silent == 0).await;
    }

    /// Ends when the daemon wants us to finish, or is gone for good, and the clients have left since, or had time to.
    pub(super) async fn drained(&self) {
        self.told_to_leave().await;
        self.guests_are(FAREWELL, |guests| guests.open == 0).await;
    }

    /// True if the daemon wants us to finish, or is gone for good.
    pub(super) fn is_to_leave(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    pub(super) async fn told_to_leave(&self) {
        // The sender is ours: it lives.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= Stage::Draining).await;
    }

    /// Ends when all connections were accepted and those within are as wanted, but not after `limit`.
    async fn guests_are(&self, limit: Duration, wanted: impl Fn(&Guests) -> bool) {
        let mut guests = self.guests.subscribe();
        let settled = guests.wait_for(|guests| wanted(guests) && self.lock().none_waits());
        let _ = tokio::time::timeout(limit, settled).await;
    }

    async fn greeted(&self) -> io::Result<()> {
        let mut stage = self.stage.subscribe();
        let stage = stage.wait_for(|stage| *stage > Stage::Greeting).await.map(|stage| *stage);
        match stage {
            Ok(Stage::Unwelcome { oldest, newest }) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the daemon speaks versions {oldest} to {newest} of the worker protocol, this program {VERSION}"
                ),
            )),
            Ok(Stage::Ended) | Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(Stage::Greeting | Stage::Serving | Stage::Draining) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that panics is done under it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| std::mem::replace(stage, to.max(*stage)) < to);
    }

    fn is_draining(&self) -> bool {
        *self.stage.borrow() == Stage::Draining
    }

    /// Sends it when there is room.
    async fn say(&self, message: &FromWorker<'_>) -> io::Result<()> {
        self.send(|| packets::send(&self.socket, &message.encode(), &[])).await
    }

    /// Tells how we stand, if that is news.
    async fn tell(&self) -> io::Result<()> {
        self.send(|| self.tell_now(&mut self.lock())).await
    }

    async fn send<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.socket.async_io(Interest::WRITABLE, |_| attempt()).await
    }

    fn tell_now(&self, inner: &mut Inner) -> io::Result<()> {
        let status = inner.status();
        if status != inner.told {
            packets::send(&self.socket, &FromWorker::Status(status).encode(), &[])?;
            inner.told = status;
        }
        if self.is_draining() && inner.is_empty() && !inner.told_drained {
            packets::send(&self.socket, &FromWorker::Drained.encode(), &[])?;
            inner.told_drained = true;
        }
        Ok(())
    }

    async fn heard(&self, packet: &[u8], files: Vec<OwnedFd>) -> io::Result<()> {
        // What a later daemon may say is not for us.
        let Ok(message) = FromDaemon::decode(packet) else { return Ok(()) };
        match message {
            FromDaemon::Welcome { .. } => self.advance(Stage::Serving),
            FromDaemon::Unwelcome { oldest, newest } => self.advance(Stage::Unwelcome { oldest, newest }),
            FromDaemon::Listening { index, errno, address } => {
                let answer = match errno {
                    0 => Ok(address.to_owned()),
                    errno => Err(io::Error::from_raw_os_error(errno.into())),
                };
                let asker = self.lock().door(index).and_then(|door| door.asker.take());
                // Whoever asked may have gone meanwhile.
                let _ = asker.map(|asker| asker.send(answer));
            }
            FromDaemon::Connections { index, numbers } => self.arrived(index, numbers, files).await?,
            FromDaemon::Sync { token } => {
                self.lock().token = token;
                self.tell().await?;
            }
            FromDaemon::Drain => {
                self.advance(Stage::Draining);
                self.lock().told_drained = false;
                self.tell().await?;
            }
        }
        Ok(())
    }

    async fn arrived(&self, index: u32, numbers: Vec<u64>, files: Vec<OwnedFd>) -> io::Result<()> {
        let connections = numbers.into_iter().zip(files);
        let unwanted: Vec<u64> = {
            let mut inner = self.lock();
            match inner.door(index).filter(|door| !door.closed) {
                Some(door) => {
                    door.waiting.extend(connections);
                    door.news.notify_one();
                    return Ok(());
                }
                None => connections.map(|(number, _)| number).collect(),
            }
        };
        for number in unwanted {
            self.say(&FromWorker::Refuse { number }).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn status(&self) -> Status {
        let credit = u32::try_from(MOST).unwrap_or(1);
        Status { open: self.open, credit, taken: self.taken, token: self.token }
    }

    fn door(&mut self, index: u32) -> Option<&mut Queue> {
        self.doors.get_mut(usize::try_from(index).ok()?)
    }

    /// No connection is here.
    fn is_empty(&self) -> bool {
        self.open == 0 && self.none_waits()
    }

    /// The app has accepted all there was.
    fn none_waits(&self) -> bool {
        self.doors.iter().all(|door| door.waiting.is_empty())
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Reads to the end.
async fn read(channel: Arc<Channel>) {
    let mut buffer = [0; PACKET];
    loop {
        let Ok(mut ready) = channel.socket.readable().await else { break };
        match ready.try_io(|socket| packets::receive(socket.get_ref(), &mut buffer)) {
            Ok(Ok((0, _))) => break,
            Ok(Ok((count, files))) => {
                if channel.heard(&buffer[..count], files).await.is_err() {
                    break;
                }
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    channel.advance(Stage::Ended);
    // Whoever waits for an answer gets none.
    channel.lock().doors.iter_mut().for_each(|door| drop(door.asker.take()));
}

/// Tells that connections have ended: soon, and for many at once.
async fn tell_of_ends(channel: Arc<Channel>) {
    loop {
        channel.ended.notified().await;
        if !channel.is_draining() {
            tokio::time::sleep(TOGETHER).await;
        }
        if channel.tell().await.is_err() {
            return;
        }
    }
}
