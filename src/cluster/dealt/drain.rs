//! Letting a worker finish: it leaves the rotation, its connections end, then it disconnects.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::member::{Life, Member};
use super::node::reply;
use super::state::{ClusterState, WeakClusterState};
use crate::cluster::notice::Notice;
use crate::protocol::Run;
use crate::protocol::channel::FromDaemon;

/// Starts to drain a worker. [`Notice::Drained`] comes exactly once, after `grace` at the latest, unless the worker is
/// gone before.
pub(crate) fn start(state: &mut ClusterState, run: Run, grace: Duration) {
    state.exclude(run);
    match state.members.get(&run) {
        Some(member) if member.takes_connections() => {
            let life = member.life.subscribe();
            tokio::task::spawn_local(drain(state.me.clone(), run, life, Instant::now() + grace));
        }
        // The worker takes no connections of the daemon's: there is nothing to wait for.
        _ => state.notify(Notice::Drained { run }),
    }
}

async fn drain(shared: WeakClusterState, run: Run, mut life: watch::Receiver<Life>, until: Instant) {
    if send_request(&shared, run, Request::Drain) {
        wait_for_life(&mut life, Life::Drained, until).await;
    }
    if send_request(&shared, run, Request::Disconnect) {
        wait_for_life(&mut life, Life::Ended, until).await;
    }
    let Some(state) = shared.upgrade() else { return };
    let state = state.borrow();
    // If the worker is gone, the owner knows of its exit, and needs no notice.
    if state.members.contains_key(&run) {
        state.notify(Notice::Drained { run });
    }
}

/// Waits until the worker has got that far, or is gone, or the time is up.
async fn wait_for_life(life: &mut watch::Receiver<Life>, goal: Life, until: Instant) {
    let _ = timeout_at(until, life.wait_for(|now| *now >= goal)).await;
}

#[derive(Clone, Copy)]
enum Request {
    Drain,
    Disconnect,
}

/// Sends the request, unless the previous daemon did. True if the worker is there and understands it.
fn send_request(shared: &WeakClusterState, run: Run, request: Request) -> bool {
    let Some(state) = shared.upgrade() else { return false };
    let mut state = state.borrow_mut();
    let Some(member) = state.members.get_mut(&run) else { return false };
    if let Some(pmr) = member.transport.pmr() {
        // A second DRAIN does no harm. Afterwards the worker ends, or gets its stop signal.
        let drains = matches!(request, Request::Drain);
        if drains {
            pmr.channel.send_message(&FromDaemon::Drain);
        }
        return drains;
    }
    match request {
        Request::Drain if member.node_version.is_none() => return false,
        // A second request does no harm, so it is saved after it is sent.
        Request::Drain if !member.asked_to_drain => {
            member.asked_to_drain = true;
            member.send_line(reply::DRAIN);
            state.save();
        }
        // At a second request Node disconnects at once, so it is saved before it is sent.
        Request::Disconnect if !member.asked_to_disconnect => {
            member.asked_to_disconnect = true;
            state.save();
            state.members.get_mut(&run).map(Member::send_disconnect);
        }
        Request::Drain | Request::Disconnect => {}
    }
    true
}
