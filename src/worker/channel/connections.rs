//! The count of connections that are open in the app, and of those whose clients have sent nothing yet.

use std::sync::Arc;

use super::Channel;

/// Numbers of open connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connections {
    pub(super) open: usize,
    /// Open connections from which nothing was read yet.
    pub(super) silent: usize,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    channel: Arc<Channel>,
    /// Nothing was read from it yet.
    silent: bool,
}

impl OpenConnection {
    /// Counts a connection that STATUS has already reported as open and taken.
    pub(super) fn count(channel: &Arc<Channel>) -> OpenConnection {
        channel.connections.send_modify(|connections| {
            connections.open += 1;
            connections.silent += 1;
        });
        OpenConnection { channel: Arc::clone(channel), silent: true }
    }

    /// To be called when bytes were read from the connection.
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
