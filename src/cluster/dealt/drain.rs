//! Letting a worker finish: out of rotation, its connections end, then it disconnects.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::Notice;
use super::node::reply;
use super::state::{ClusterState, Life, Shared};
use crate::protocol::Run;
use crate::protocol::channel::FromDaemon;

impl ClusterState {
    /// Starts it. [`Notice::Drained`] comes exactly once, at the latest after `grace`, unless the worker is gone before.
    pub(crate) fn drain(&mut self, run: Run, grace: Duration) {
        self.exclude(run);
        match self.members.get(&run) {
            Some(member) if member.shares() => {
                let life = member.life.subscribe();
                tokio::task::spawn_local(drain(self.me.clone(), run, life, Instant::now() + grace));
            }
            // It has no part in the cluster: there is nothing to wait for.
            _ => self.tell(Notice::Drained { run }),
        }
    }
}

impl ClusterState {
    fn say_disconnect(&mut self, run: Run) {
        if let Some(member) = self.members.get_mut(&run) {
            let seq = member.next_seq();
            member.say(reply::disconnect(seq));
        }
    }

    /// A worker told to disconnect closes its servers before it says anything else. One that answered a question, and
    /// has not closed them, was noted as told by a God who was killed before he told it.
    pub(crate) fn disconnect_if_unheard(&mut self, run: Run) {
        let told = self.members.get(&run).is_some_and(|member| member.asked_to_disconnect);
        if told && self.listeners.values().any(|listener| listener.is_held_by(run)) {
            self.say_disconnect(run);
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
    if let Some(own) = member.line.own() {
        // Asked twice it does no harm. Afterwards it ends, or gets its stop signal.
        let drains = matches!(request, Request::Drain);
        if drains {
            own.channel.say(&FromDaemon::Drain);
        }
        return drains;
    }
    match request {
        Request::Drain if member.node.is_none() => return false,
        // Asked twice it does no harm, so it is noted afterwards.
        Request::Drain if !member.asked_to_drain => {
            member.asked_to_drain = true;
            member.say(reply::DRAIN);
            state.note();
        }
        // Asked twice, Node hangs up at once, so it is noted before.
        Request::Disconnect if !member.asked_to_disconnect => {
            member.asked_to_disconnect = true;
            state.note();
            state.say_disconnect(run);
        }
        // By the God before us.
        Request::Drain | Request::Disconnect => {}
    }
    true
}
