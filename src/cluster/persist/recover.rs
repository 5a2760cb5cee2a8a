//! A cluster goes on after its God's death: what he left is put together again.
//!
//! Sockets and channels are open still, and what workers said since waits in the channels. A connection that was with us
//! is dealt out anew. One that was handed over stays with its worker until that answers for it, or answers the question
//! that shows it never got it ([`super::super::dealt::node::outgoing`]). One without a place was accepted just before the end: its own
//! address tells which listener it came in by.
//!
//! Written down is what *was about to be done*, so all of this may happen twice: another God may die in the middle.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use super::super::balancer::ListenerId;
use super::super::dealt::listener::{Endpoint, Listener, Vacant};
use super::super::dealt::node::channel::Channel;
use super::super::dealt::state::{ClusterState, Connection, Life, Member};
use super::super::dealt::transport::Transport;
use super::super::waiting::Shedder;
use super::super::{ClusterOptions, Notice};
use super::record::{Kind, KnownListener, KnownMember, Record};
use super::store::{Accepted, RecoveredCluster, StateStore, channel_name, own_channel_name, record_key};
use crate::keeper::Place;
use crate::os::net::connection;
use crate::os::net::socket::{Listening, SocketFile};
use crate::protocol::Run;

/// See [`super::super::Cluster::recover`].
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
        let mut state = shared.borrow_mut();
        state.next_listener = record.next_listener;
        for member in record.members {
            if let Some(file) = files.remove(&channel_name(member.run)) {
                let own = files.remove(&own_channel_name(member.run));
                state.rejoin(member, file, own);
            }
        }
        for known in record.listeners {
            let name = state.store.listener_name(ListenerId(known.id));
            if let Some(file) = files.remove(&name) {
                state.reopen(known, file);
            }
        }
        state.note();
        let connections = state.take_written_down(connections, rest);
        let unnoticed = state.take_unnoticed(rest);
        state.resume_connections(connections, unnoticed);
        state.ask_where_in_doubt();
        state.resume_patience();
        state.look_out();
        state.tell_again();
    }
    Ok(shared)
}

impl ClusterState {
    fn rejoin(&mut self, known: KnownMember, file: OwnedFd, own: Option<OwnedFd>) {
        let run = known.run;
        let kept = self.store.keep(channel_name(run), &file);
        let channel = match Channel::resume(file, run, kept) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::error!(run = run.0, %error, "cannot watch the IPC channel of a worker: closed");
                return self.tell(Notice::Disconnected { run });
            }
        };
        let line = match own {
            Some(own) => self.own_line(run, own),
            None if known.shares => Transport::Node,
            None => Transport::Apart,
        };
        self.join(run, known.instance, channel, line);
        if known.shares {
            self.greet(run);
        }
        if known.excluded {
            self.balancer.exclude(run);
        }
        if known.not_ready {
            self.balancer.mark_not_ready(run);
        }
        if known.aside {
            self.balancer.eject(run);
        }
        let Some(member) = self.members.get_mut(&run) else { return };
        member.node = known.node;
        member.asked_to_drain = known.asked_to_drain;
        member.asked_to_disconnect = known.asked_to_disconnect;
        member.listening = known.listening.into_iter().next();
        member.ready = known.ready;
        member.file_acknowledged = known.file_acknowledged;
        member.connections = known.connections;
        if known.drained {
            member.life.send_replace(Life::Drained);
        }
        self.ask_to_count(run);
    }

    fn reopen(&mut self, known: KnownListener, file: OwnedFd) {
        let id = ListenerId(known.id);
        let kept = self.store.keep(self.store.listener_name(id), &file);
        let path = known.file.map(SocketFile::adopt);
        let endpoint = match known.kind {
            Kind::Datagrams => Endpoint::datagrams(file),
            Kind::Shared => {
                let shedder = Shedder::adopt(known.arrivals);
                Endpoint::Shared { socket: Rc::new(file), udp: false, file: path, shedder }
            }
            Kind::Dealt => match self.deal(id, Listening::adopt(file, known.address.clone(), path)) {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    tracing::error!(address = %known.address, %error, "cannot go on listening");
                    return;
                }
            },
        };
        let (mut holders, mut vacant) = (known.holders, known.vacant);
        holders.retain(|holder| self.members.contains_key(&holder.run));
        if holders.is_empty() && vacant.is_none() {
            vacant = Some(Vacant::now(None));
        }
        if known.kind == Kind::Dealt {
            let sharing = holders.iter().filter(|holder| self.members.get(&holder.run).is_some_and(Member::shares));
            sharing.for_each(|holder| self.balancer.serve(id, holder.run));
        }
        let KnownListener { name, key, address, data, .. } = known;
        self.next_listener = self.next_listener.max(id.0);
        self.listeners.insert(id, Listener { id, name, key, address, kept, endpoint, data, holders, vacant });
    }

    /// The connections of ours, and where they are. One whose address is not its listener's is something else that has
    /// got its number meanwhile.
    fn take_written_down(
        &self,
        all: &mut Vec<(OwnedFd, Place)>,
        rest: &mut Vec<OwnedFd>,
    ) -> Vec<(OwnedFd, ListenerId, Place)> {
        let mut taken = Vec::new();
        for (socket, place) in std::mem::take(all) {
            let (Place::Waiting { listener, .. } | Place::Handed { listener, .. }) = place;
            match self.store.listener_of(listener) {
                Some(id) if self.came_in_by(id, &socket) => taken.push((socket, id, place)),
                Some(_) => rest.push(socket),
                None => all.push((socket, place)),
            }
        }
        taken
    }

    fn came_in_by(&self, id: ListenerId, socket: &OwnedFd) -> bool {
        let address = connection::local_address(socket);
        let listener = self.listeners.get(&id);
        address.zip(listener).is_some_and(|(address, listener)| listener.address.covers(&address))
    }

    /// Connections that were accepted and not written down.
    fn take_unnoticed(&self, all: &mut Vec<OwnedFd>) -> Vec<(OwnedFd, ListenerId)> {
        let mut taken = Vec::new();
        for file in std::mem::take(all) {
            let address = connection::local_address(&file);
            let listener = address.and_then(|address| {
                self.listeners.values().find(|l| matches!(l.endpoint, Endpoint::Dealt(_)) && l.address.covers(&address))
            });
            match listener {
                Some(listener) => taken.push((file, listener.id)),
                None => all.push(file),
            }
        }
        taken
    }

    /// Those handed over first, so that the balancer knows who is busy when the others are dealt out.
    fn resume_connections(
        &mut self,
        written_down: Vec<(OwnedFd, ListenerId, Place)>,
        unnoticed: Vec<(OwnedFd, ListenerId)>,
    ) {
        let mut waiting = Vec::new();
        for (socket, listener, place) in written_down {
            let socket = Accepted::known(socket, listener, place, &self.store);
            let connection = Connection::new(socket, listener, &self.options);
            match place {
                Place::Handed { run, seq, .. } => {
                    if let Err(homeless) = self.leave_with(Run(run), seq, connection) {
                        waiting.push(homeless);
                    }
                }
                Place::Waiting { .. } => waiting.push(connection),
            }
        }
        for (socket, listener) in unnoticed {
            let socket = Accepted::new(socket, listener, &self.store);
            waiting.push(Connection::new(socket, listener, &self.options));
        }
        waiting.into_iter().for_each(|connection| self.place(connection));
    }

    /// The connection stays with the worker it was given to, if that is still there.
    fn leave_with(&mut self, run: Run, seq: u64, connection: Connection) -> Result<(), Connection> {
        let Some(member) = self.members.get_mut(&run) else { return Err(connection) };
        member.pending.push((seq, connection));
        self.balancer.resume(run, 1, self.start.elapsed());
        Ok(())
    }

    fn ask_where_in_doubt(&mut self) {
        for member in self.members.values_mut() {
            if member.line.own().is_some() && member.shares() {
                member.ask_anew();
            } else if member.asked_to_disconnect || !member.pending.is_empty() {
                member.be_sure();
            }
        }
    }

    /// Notices the God before us may not have got round to.
    fn tell_again(&self) {
        for (run, member) in &self.members {
            let run = *run;
            if let Some(version) = member.node.clone() {
                self.tell(Notice::NodeVersion { run, version });
            }
            if let Some(address) = member.listening.clone() {
                self.tell(Notice::Listening { run, address });
            }
            if member.ready {
                self.tell(Notice::Message { run, data: super::super::dealt::node::conversation::READY.into() });
            }
        }
    }
}
