//! Letting a worker finish: out of rotation, its connections end, then it disconnects.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Notice;
use super::node::reply;
use super::state::{Life, Shared, State};
use crate::protocol::Run;

impl State {
    /// Starts it. [`Notice::Drained`] comes exactly once, at the latest after `grace`, unless the worker is gone before.
    pub(crate) fn drain(&mut self, run: Run, grace: Duration) {
        self.exclude(run);
        match self.members.get(&run) {
            Some(member) if member.shares => {
                let life = member.life.subscribe();
                tokio::task::spawn_local(drain(self.me.clone(), run, life, Instant::now() + grace));
            }
            // It has no part in the cluster: there is nothing to wait for.
            _ => self.tell(Notice::Drained { run }),
        }
    }
}

/// Waits until the worker is that far, or gone, or the time is up.
async fn reach(life: &mut watch::Receiver<Life>, goal: Life, until: Instant) {
    let _ = timeout_at(until, life.wait_for(|now| *now >= goal)).await;
}

async fn drain(shared: Shared, run: Run, mut life: watch::Receiver<Life>, until: Instant) {
    if ask(&shared, run, Request::Drain) {
        reach(&mut life, Life::Drained, until).await;
    }
    if ask(&shared, run, Request::Disconnect) {
        reach(&mut life, Life::Ended, until).await;
    }
    let Some(state) = shared.upgrade() else { return };
    let state = state.borrow();
    // The exit of one that is gone says it all.
    if state.members.contains_key(&run) {
        state.tell(Notice::Drained { run });
    }
}

#[derive(Clone, Copy)]
enum Request {
    Drain,
    Disconnect,
}

/// True if the worker is there and can do it.
fn ask(shared: &Shared, run: Run, request: Request) -> bool {
    let Some(state) = shared.upgrade() else { return false };
    let mut state = state.borrow_mut();
    let Some(member) = state.members.get_mut(&run) else { return false };
    match request {
        Request::Drain if !member.can_drain => return false,
        Request::Drain => member.say(reply::DRAIN),
        Request::Disconnect => {
            let seq = member.next_seq();
            member.say(reply::disconnect(seq));
        }
    }
    true
}
