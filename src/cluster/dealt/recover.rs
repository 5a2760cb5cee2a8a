//! A cluster goes on after the death of its daemon: the next daemon rebuilds it from what the previous one left.
//!
//! Sockets and channels are open still, and what workers sent since waits in the channels. A connection that waited in
//! the daemon is dealt out anew. One that was handed over stays with its worker until the worker answers for it, or
//! answers the sync message, which shows that it was never sent ([`super::node::outgoing`]). A connection without a
//! slot was accepted just before the end: its own address shows which listener it came in by.
//!
//! The record has what *was about to be done*, so all of this may happen twice: the next daemon may die in the middle.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use super::channel::session::PmrSession;
use super::connection::Connection;
use super::listener::{Endpoint, Listener, Vacant};
use super::member::{Life, Member, Transport};
use super::node::channel::Channel;
use super::record::{Kind, ListenerRecord, MemberRecord, Record};
use super::state::{ClusterState, READY};
use super::workers;
use crate::cluster::balancer::ListenerId;
use crate::cluster::notice::Notice;
use crate::cluster::options::{ClusterOptions, WorkerProtocol};
use crate::cluster::persist::{
    AcceptedSocket, RecoveredCluster, StateStore, channel_name, own_channel_name, record_key,
};
use crate::cluster::waiting::Shedder;
use crate::keeper::Place;
use crate::os::net::connection;
use crate::os::net::socket::{Listening, SocketFile};
use crate::protocol::Run;

/// See [`crate::cluster::Cluster::recover`].
pub(crate) fn recover(
    options: ClusterOptions,
    store: StateStore,
    notices: UnboundedSender<Notice>,
    RecoveredCluster { records, files, connections, rest }: RecoveredCluster<'_>,
) -> Result<Rc<RefCell<ClusterState>>, String> {
    let record = records.get(&record_key(store.app)).map_or("{}", String::as_str);
    let record: Record = serde_json::from_str(record).map_err(|error| format!("its record: {error}"))?;
    let shared = ClusterState::new(options, store, notices);
    {
        let state = &mut *shared.borrow_mut();
        state.next_listener = record.next_listener;
        for member in record.members {
            if let Some(file) = files.remove(&channel_name(member.run)) {
                let own = files.remove(&own_channel_name(member.run));
                rejoin(state, member, file, own);
            }
        }
        for listener in record.listeners {
            let name = state.store.listener_name(ListenerId(listener.id));
            if let Some(file) = files.remove(&name) {
                reopen(state, listener, file);
            }
        }
        state.save();
        let placed = take_placed(state, connections, rest);
        let unplaced = take_unplaced(state, rest);
        resume_connections(state, placed, unplaced);
        send_syncs(state);
        state.resume_vacancy_timers();
        state.update_shedders();
        repeat_notices(state);
    }
    Ok(shared)
}

fn rejoin(state: &mut ClusterState, known: MemberRecord, file: OwnedFd, own: Option<OwnedFd>) {
    let run = known.run;
    let kept = state.store.keep(channel_name(run), &file);
    let channel = match Channel::resume(file, run, kept) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(run = run.0, %error, "cannot watch the IPC channel of a worker: closed");
            return state.notify(Notice::Disconnected { run });
        }
    };
    let protocol = match own {
        Some(own) => WorkerProtocol::Channel(own),
        None if known.takes_connections => WorkerProtocol::Node,
        None => WorkerProtocol::None,
    };
    let transport = workers::transport(state, run, protocol);
    workers::join(state, run, known.instance, channel, transport);
    if known.takes_connections {
        PmrSession::new(state, run).welcome();
    }
    restore_rotation(state, &known);
    restore_member(state, known);
    state.request_open_count(run);
}

fn restore_rotation(state: &mut ClusterState, known: &MemberRecord) {
    if known.excluded {
        state.balancer.exclude(known.run);
    }
    if known.not_ready {
        state.balancer.mark_not_ready(known.run);
    }
    if known.ejected {
        state.balancer.eject(known.run);
    }
}

fn restore_member(state: &mut ClusterState, known: MemberRecord) {
    let Some(member) = state.members.get_mut(&known.run) else { return };
    member.node_version = known.node_version;
    member.asked_to_drain = known.asked_to_drain;
    member.asked_to_disconnect = known.asked_to_disconnect;
    member.listening = known.listening.into_iter().next();
    member.ready = known.ready;
    member.file_acknowledged = known.file_acknowledged;
    member.connections = known.connections;
    if known.drained {
        member.life.send_replace(Life::Drained);
    }
}

fn reopen(state: &mut ClusterState, known: ListenerRecord, file: OwnedFd) {
    let id = ListenerId(known.id);
    let kept = state.store.keep(state.store.listener_name(id), &file);
    let path = known.file.map(SocketFile::adopt);
    let endpoint = match known.kind {
        Kind::Datagrams => Endpoint::datagrams(file),
        Kind::Shared => {
            let shedder = Shedder::adopt(known.arrivals);
            Endpoint::Shared { socket: Rc::new(file), udp: false, file: path, shedder }
        }
        Kind::Dealt => match state.deal(id, Listening::adopt(file, known.address.clone(), path)) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(address = %known.address, %error, "cannot go on listening");
                return;
            }
        },
    };
    let (mut holders, mut vacant) = (known.holders, known.vacant);
    holders.retain(|holder| state.members.contains_key(&holder.run));
    if holders.is_empty() && vacant.is_none() {
        vacant = Some(Vacant::now(None));
    }
    if known.kind == Kind::Dealt {
        let takes = |run: Run| state.members.get(&run).is_some_and(Member::takes_connections);
        holders.iter().filter(|holder| takes(holder.run)).for_each(|holder| state.balancer.serve(id, holder.run));
    }
    let ListenerRecord { name, key, address, data, .. } = known;
    state.next_listener = state.next_listener.max(id.0);
    state.listeners.insert(id, Listener { id, name, key, address, kept, endpoint, data, holders, vacant });
}

/// Takes the connections of this cluster that have a slot. One whose address is not its listener's is another file that
/// has got the descriptor number meanwhile: it goes to the `rest`.
fn take_placed(
    state: &ClusterState,
    all: &mut Vec<(OwnedFd, Place)>,
    rest: &mut Vec<OwnedFd>,
) -> Vec<(OwnedFd, ListenerId, Place)> {
    let mut taken = Vec::new();
    for (socket, place) in std::mem::take(all) {
        let (Place::Waiting { listener, .. } | Place::Handed { listener, .. }) = place;
        match state.store.listener_of_slot(listener) {
            Some(id) if came_in_by(state, id, &socket) => taken.push((socket, id, place)),
            Some(_) => rest.push(socket),
            None => all.push((socket, place)),
        }
    }
    taken
}

fn came_in_by(state: &ClusterState, id: ListenerId, socket: &OwnedFd) -> bool {
    let address = connection::local_address(socket);
    let listener = state.listeners.get(&id);
    address.zip(listener).is_some_and(|(address, listener)| listener.address.covers(&address))
}

/// Takes the connections of this cluster that were accepted and got no slot.
fn take_unplaced(state: &ClusterState, all: &mut Vec<OwnedFd>) -> Vec<(OwnedFd, ListenerId)> {
    let mut taken = Vec::new();
    for file in std::mem::take(all) {
        let address = connection::local_address(&file);
        let listener = address
            .and_then(|address| state.listeners.values().find(|l| l.endpoint.is_dealt() && l.address.covers(&address)));
        match listener {
            Some(listener) => taken.push((file, listener.id)),
            None => all.push(file),
        }
    }
    taken
}

/// Connections that were handed over come first, so that the balancer knows which workers are busy when the others are
/// dealt out.
fn resume_connections(
    state: &mut ClusterState,
    placed: Vec<(OwnedFd, ListenerId, Place)>,
    unplaced: Vec<(OwnedFd, ListenerId)>,
) {
    let mut waiting = Vec::new();
    for (socket, listener, place) in placed {
        let socket = AcceptedSocket::recovered(socket, listener, place, &state.store);
        let connection = Connection::new(socket, listener, &state.options);
        match place {
            Place::Handed { run, seq, .. } => {
                if let Err(connection) = resume_handed(state, Run(run), seq, connection) {
                    waiting.push(connection);
                }
            }
            Place::Waiting { .. } => waiting.push(connection),
        }
    }
    for (socket, listener) in unplaced {
        let socket = AcceptedSocket::new(socket, listener, &state.store);
        waiting.push(Connection::new(socket, listener, &state.options));
    }
    waiting.into_iter().for_each(|connection| state.dispatch(connection));
}

/// The connection stays with the worker that it was handed to. Returns it if that worker is gone.
fn resume_handed(state: &mut ClusterState, run: Run, seq: u64, connection: Connection) -> Result<(), Connection> {
    let Some(member) = state.members.get_mut(&run) else { return Err(connection) };
    member.pending.push((seq, connection));
    state.balancer.add_unanswered(run, 1, state.start.elapsed());
    Ok(())
}

/// Sends the sync message to each worker of which it is not known what it has got.
fn send_syncs(state: &mut ClusterState) {
    for member in state.members.values_mut() {
        if matches!(member.transport, Transport::Channel(_)) && member.takes_connections() {
            member.send_sync();
        } else if member.asked_to_disconnect || !member.pending.is_empty() {
            member.ensure_synced();
        }
    }
}

/// Sends notices that the previous daemon may not have handled.
fn repeat_notices(state: &ClusterState) {
    for (run, member) in &state.members {
        let run = *run;
        if let Some(version) = member.node_version.clone() {
            state.notify(Notice::NodeVersion { run, version });
        }
        if let Some(address) = member.listening.clone() {
            state.notify(Notice::Listening { run, address, accepts: true });
        }
        if member.ready {
            state.notify(Notice::Message { run, data: READY.into() });
        }
    }
}
