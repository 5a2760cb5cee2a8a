//! How a worker joins, and how its channels are read to their end when it is gone.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio_util::task::AbortOnDropHandle;

use super::channel::{packets, session as pmr_session};
use super::member::{Member, PmrChannel, Transport};
use super::node::channel::Channel;
use super::node::session as node_session;
use super::state::ClusterState;
use crate::cluster::options::WorkerProtocol;
use crate::cluster::persist::own_channel_name;
use crate::protocol::Run;

/// The transport of a worker of this protocol. A worker whose own channel cannot be watched gets no connections.
pub(crate) fn transport(state: &ClusterState, run: Run, protocol: WorkerProtocol) -> Transport {
    match protocol {
        WorkerProtocol::None => Transport::None,
        WorkerProtocol::Node => Transport::Node,
        WorkerProtocol::Channel(channel) => pmr_channel(state, run, channel),
    }
}

/// The daemon's end of a channel of pmr's own protocol, new or recovered.
fn pmr_channel(state: &ClusterState, run: Run, channel: OwnedFd) -> Transport {
    let kept = state.store.keep(own_channel_name(run), &channel);
    match packets::Channel::new(channel, run, kept) {
        Ok(channel) => {
            let task = pmr_session::read(state.me.clone(), run, Rc::clone(&channel));
            let reader = AbortOnDropHandle::new(tokio::task::spawn_local(task));
            Transport::Channel(PmrChannel { channel, welcomed: false, sync_token: None, _reader: reader })
        }
        Err(error) => {
            tracing::error!(run = run.0, %error, "cannot watch the channel of a worker: closed");
            Transport::None
        }
    }
}

/// Adds a worker, and starts to read its IPC channel.
pub(crate) fn join(state: &mut ClusterState, run: Run, instance: u32, ipc: Rc<Channel>, transport: Transport) {
    if matches!(transport, Transport::Node) {
        state.balancer.join(run, instance);
    }
    let task = node_session::read(state.me.clone(), run, Rc::clone(&ipc));
    let reader = AbortOnDropHandle::new(tokio::task::spawn_local(task));
    let member = Member::new(instance, ipc, transport, Rc::clone(&state.seq), reader);
    state.members.insert(run, member);
}

/// Removes a worker whose process has ended. What it sent last is read, and what it had not taken goes to others.
pub(crate) fn remove(shared: &RefCell<ClusterState>, run: Run) {
    if !shared.borrow().members.contains_key(&run) {
        return shared.borrow_mut().balancer.leave(run);
    }
    node_session::read_rest(shared, run);
    pmr_session::read_rest(shared, run);
    let mut state = shared.borrow_mut();
    state.ended(run);
    let member = state.members.remove(&run);
    state.save();
    if let Some(member) = member {
        member.release();
    }
}
