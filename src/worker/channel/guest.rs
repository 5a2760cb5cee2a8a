//! Connections within the app: how many there are, and how many have not said anything yet.

use std::sync::Arc;

use super::Channel;

/// Connections within the app.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guests {
    pub(super) open: usize,
    /// Those of them from which nothing was read yet.
    pub(super) silent: usize,
}

/// A connection within the app; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    channel: Arc<Channel>,
    /// Nothing was read from it yet.
    silent: bool,
}

impl Guest {
    /// Of a connection that was counted as open when it was taken.
    pub(super) fn enter(channel: &Arc<Channel>) -> Guest {
        channel.guests.send_modify(|guests| {
            guests.open += 1;
            guests.silent += 1;
        });
        Guest { channel: Arc::clone(channel), silent: true }
    }

    /// Something was read.
    pub(crate) fn has_spoken(&mut self) {
        if std::mem::replace(&mut self.silent, false) {
            self.channel.guests.send_modify(|guests| guests.silent -= 1);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.has_spoken();
        self.channel.guests.send_modify(|guests| guests.open -= 1);
        self.channel.lock().open -= 1;
        self.channel.ended.notify_one();
    }
}
