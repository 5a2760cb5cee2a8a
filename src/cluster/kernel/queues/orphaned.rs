//! Queues that no worker has come for: after a while they close, if the app serves elsewhere.

use std::time::Duration;

use super::queue::{Queue, QueueId};
use super::state::State;
use crate::os::clock;

/// How long a queue stays that no worker has come for, while others of the app serve.
const FORSAKEN: Duration = Duration::from_secs(30);

impl State {
    /// Looks after the vacant when their time is up.
    pub(crate) fn look_again(&mut self) {
        if !self.queues.iter().any(Queue::is_vacant) || std::mem::replace(&mut self.looking, true) {
            return;
        }
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FORSAKEN).await;
            if let Some(state) = me.upgrade() {
                let mut state = state.borrow_mut();
                state.looking = false;
                state.remove_forsaken();
                state.look_again();
            }
        });
    }

    /// Removes the queues nobody will come for.
    fn remove_forsaken(&mut self) {
        let now = clock::monotonic_ms();
        let is_over = |queue: &&Queue| {
            let lasts = queue.vacant_since.map_or(0, |since| now.saturating_sub(since));
            queue.is_vacant() && Duration::from_millis(lasts) >= FORSAKEN
        };
        let served = self.queues.iter().any(|queue| self.is_served_queue(queue));
        let over: Vec<QueueId> = self.queues.iter().filter(is_over).map(|queue| queue.id).collect();
        if served && !over.is_empty() {
            over.iter().for_each(|id| self.remove(*id));
            self.note();
        }
    }
}
