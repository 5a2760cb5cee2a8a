//! Where connections come from: one listener of the channel, as the app has it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::Notify;

use super::guest::Guest;
use super::{Channel, number};
use crate::os::net::packets;
use crate::protocol::channel::FromWorker;
use crate::worker::stream::Stream;

/// One listener of the channel.
#[derive(Debug)]
pub(crate) struct Door {
    pub(super) channel: Arc<Channel>,
    pub(super) index: usize,
    pub(super) news: Arc<Notify>,
}

impl Door {
    /// The next connection. May be dropped while it waits.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        loop {
            match self.channel.send(|| self.take()).await {
                Ok(Some(socket)) => return Stream::new(socket, Some(Guest::enter(&self.channel))),
                Ok(None) => self.news.notified().await,
                // Nobody is there any more to send us one.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Takes a connection, after the daemon was told so: from now on no other worker gets it.
    fn take(&self) -> io::Result<Option<OwnedFd>> {
        let mut inner = self.channel.lock();
        let Some((number, _)) = inner.doors[self.index].waiting.front() else { return Ok(None) };
        let before = (inner.taken, inner.open);
        inner.taken = inner.taken.max(*number);
        inner.open += 1;
        if let Err(error) = self.channel.tell_now(&mut inner) {
            (inner.taken, inner.open) = before;
            return Err(error);
        }
        Ok(inner.doors[self.index].waiting.pop_front().map(|(_, socket)| socket))
    }
}

impl Drop for Door {
    /// What was not accepted goes to others.
    fn drop(&mut self) {
        let mut inner = self.channel.lock();
        let taken = inner.taken;
        let door = &mut inner.doors[self.index];
        door.closed = true;
        let waiting = std::mem::take(&mut door.waiting);
        // If the daemon has no room to hear it, the end of this process says the same.
        let say = |message: FromWorker<'_>| drop(packets::send(&self.channel.socket, &message.encode(), &[]));
        say(FromWorker::Close { index: number(self.index) });
        waiting.iter().filter(|(number, _)| *number > taken).for_each(|(number, _)| {
            say(FromWorker::Refuse { number: *number });
        });
        drop(inner);
        self.channel.ended.notify_one();
    }
}
