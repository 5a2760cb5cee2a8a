//! The app's handle of one listener of the channel.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::Notify;

use super::connections::OpenConnection;
use super::{Channel, number};
use crate::os::packets;
use crate::protocol::FromWorker;
use crate::stream::Stream;

/// Accepts connections that arrive on the channel. When it is dropped, connections that were not accepted go back to
/// the daemon.
#[derive(Debug)]
pub(crate) struct ChannelListener {
    pub(super) channel: Arc<Channel>,
    /// Number of the listener in the protocol.
    pub(super) index: usize,
    /// Notified when a connection has arrived.
    pub(super) arrival: Arc<Notify>,
}

impl ChannelListener {
    /// Waits for the next connection. Cancel safe.
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

    /// Takes a connection from the queue, after STATUS has reported it as taken: from then on no other worker gets it.
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
        // Fails if the socket is full. Then the daemon takes these connections back when this process ends.
        let send = |message: FromWorker<'_>| drop(packets::send(&self.channel.socket, &message.encode(), &[]));
        send(FromWorker::Close { index: number(self.index) });
        waiting.iter().filter(|(number, _)| *number > taken).for_each(|(number, _)| {
            send(FromWorker::Refuse { number: *number });
        });
        drop(state);
        self.channel.ended.notify_one();
    }
}
