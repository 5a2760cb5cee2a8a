//! One listener of the channel, as the app has it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::Notify;

use super::connections::OpenConnection;
use super::{Channel, number};
use crate::os::packets;
use crate::protocol::FromWorker;
use crate::stream::Stream;

/// See the module. Dropped, it gives back what was not accepted.
#[derive(Debug)]
pub(crate) struct ChannelListener {
    pub(super) channel: Arc<Channel>,
    /// Its number in the protocol.
    pub(super) index: usize,
    /// Notified when a connection has arrived.
    pub(super) arrival: Arc<Notify>,
}

impl ChannelListener {
    /// The next connection. May be dropped while it waits.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        loop {
            match self.channel.when_writable(|| self.take()).await {
                Ok(Some(socket)) => return Stream::of_channel(socket, OpenConnection::count(&self.channel)),
                Ok(None) => self.arrival.notified().await,
                // The daemon is gone for good: no connection will come.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Takes a connection, after the daemon was told so: from now on no other worker gets it.
    fn take(&self) -> io::Result<Option<OwnedFd>> {
        let mut state = self.channel.lock();
        let Some((number, _)) = state.queues[self.index].waiting.front() else { return Ok(None) };
        let before = (state.taken, state.open);
        state.taken = state.taken.max(*number);
        state.open += 1;
        if let Err(error) = self.channel.try_report(&mut state) {
            (state.taken, state.open) = before;
            return Err(error);
        }
        Ok(state.queues[self.index].waiting.pop_front().map(|(_, socket)| socket))
    }
}

impl Drop for ChannelListener {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        let taken = state.taken;
        let queue = &mut state.queues[self.index];
        queue.closed = true;
        let waiting = std::mem::take(&mut queue.waiting);
        // If the socket is full, the end of this process says the same.
        let send = |message: FromWorker<'_>| drop(packets::send(&self.channel.socket, &message.encode(), &[]));
        send(FromWorker::Close { index: number(self.index) });
        waiting.iter().filter(|(number, _)| *number > taken).for_each(|(number, _)| {
            send(FromWorker::Refuse { number: *number });
        });
        drop(state);
        self.channel.ended.notify_one();
    }
}
