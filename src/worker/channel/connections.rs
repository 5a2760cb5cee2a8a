//! Connections that are open in the app: how many there are, and how many have not sent anything yet.

use std::sync::Arc;

use super::Channel;

/// How many connections the app has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connections {
    pub(super) open: usize,
    /// Those of them from which nothing was read yet.
    pub(super) silent: usize,
}

/// A connection in the app; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    channel: Arc<Channel>,
    /// Nothing was read from it yet.
    silent: bool,
}

impl OpenConnection {
    /// For a connection that was counted in the status when it was taken.
    pub(super) fn count(channel: &Arc<Channel>) -> OpenConnection {
        channel.connections.send_modify(|connections| {
            connections.open += 1;
            connections.silent += 1;
        });
        OpenConnection { channel: Arc::clone(channel), silent: true }
    }

    /// Something was read from it.
    pub(crate) fn has_sent(&mut self) {
        if std::mem::replace(&mut self.silent, false) {
            self.channel.connections.send_modify(|connections| connections.silent -= 1);
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.has_sent();
        self.channel.connections.send_modify(|connections| connections.open -= 1);
        self.channel.lock().open -= 1;
        self.channel.ended.notify_one();
    }
}
