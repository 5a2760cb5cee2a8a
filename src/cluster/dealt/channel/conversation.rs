//! What to do about each thing a worker says on a channel of pmr's own.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio_util::task::AbortOnDropHandle;

use super::packets::{Channel, Read};
use crate::cluster::Notice;
use crate::cluster::balancer::ListenerId;
use crate::cluster::dealt::backpressure;
use crate::cluster::dealt::backpressure::LAST_LOOKS;
use crate::cluster::dealt::listener::Endpoint;
use crate::cluster::dealt::node::conversation::READY;
use crate::cluster::dealt::node::message::{AddressType, Number, Query};
use crate::cluster::dealt::state::{ClusterState, Shared};
use crate::cluster::dealt::transport::{Own, Transport};
use crate::cluster::persist::store::own_channel_name;
use crate::protocol::Run;
use crate::protocol::channel::{FromDaemon, FromWorker, MOST, Status, Unread, VERSION};
use crate::spec::Balance;

impl ClusterState {
    /// Our end of a channel, new or from another God. A worker whose channel cannot be watched is served otherwise.
    pub(crate) fn own_line(&self, run: Run, channel: OwnedFd) -> Transport {
        let kept = self.store.keep(own_channel_name(run), &channel);
        match Channel::new(channel, run, kept) {
            Ok(channel) => {
                let reader = tokio::task::spawn_local(read(self.me.clone(), run, Rc::clone(&channel)));
                Transport::Own(Own { channel, greeted: false, asked: None, _reader: AbortOnDropHandle::new(reader) })
            }
            Err(error) => {
                tracing::error!(run = run.0, %error, "cannot watch the channel of a worker: closed");
                Transport::Apart
            }
        }
    }

    /// A worker sent this packet.
    fn heard_packet(&mut self, run: Run, packet: &[u8]) {
        let greeted = self.members.get(&run).and_then(|member| member.line.own()).is_some_and(|own| own.greeted);
        match FromWorker::decode(packet) {
            Ok(FromWorker::Hello { version: VERSION }) => self.hello(run),
            Ok(FromWorker::Hello { version }) => self.unwelcome(run, version),
            Err(Unread::Garbage) => self.complain_of_packet(run, packet),
            _ if !greeted => self.complain_of_packet(run, packet),
            // Of a later version that speaks this one, too.
            Err(Unread::Unknown) => {}
            Ok(FromWorker::Listen { index, backlog, address }) => self.wants_listener(run, index, backlog, address),
            Ok(FromWorker::Close { index }) => {
                if let Some(id) = self.listener_of(run, index) {
                    self.left(run, id);
                }
            }
            Ok(FromWorker::Status(status)) => self.stands(run, status),
            Ok(FromWorker::Refuse { number }) => self.answered(run, number, false),
            Ok(FromWorker::Ready) => self.said(run, READY.into()),
            Ok(FromWorker::Drained) => self.drained(run),
        }
    }

    fn hello(&mut self, run: Run) {
        self.say_packet(run, &FromDaemon::Welcome { version: VERSION, most: u32::try_from(MOST).unwrap_or(1) });
        self.greet(run);
        self.note();
    }

    /// From now on connections may be dealt to it, once it grants some.
    pub(crate) fn greet(&mut self, run: Run) {
        let Some(member) = self.members.get_mut(&run) else { return };
        let instance = member.instance;
        if member.line.own_mut().is_some_and(|own| !std::mem::replace(&mut own.greeted, true)) {
            self.balancer.join(run, instance);
            self.balancer.grant(run, 0);
        }
    }

    fn unwelcome(&mut self, run: Run, version: u16) {
        tracing::warn!(
            run = run.0,
            "a worker speaks version {version} of the worker protocol, and this daemon version {VERSION} only"
        );
        self.say_packet(run, &FromDaemon::Unwelcome { oldest: VERSION, newest: VERSION });
    }

    fn say_packet(&self, run: Run, message: &FromDaemon<'_>) {
        if let Some(own) = self.members.get(&run).and_then(|member| member.line.own()) {
            own.channel.say(message);
        }
    }

    fn complain_of_packet(&mut self, run: Run, packet: &[u8]) {
        let Some(member) = self.members.get_mut(&run) else { return };
        if !std::mem::replace(&mut member.complained, true) {
            let shown = packet[..packet.len().min(40)].escape_ascii();
            tracing::warn!(run = run.0, "a worker wrote something strange to its channel, ignored: \"{shown}\"");
        }
    }

    fn listener_of(&self, run: Run, index: u32) -> Option<ListenerId> {
        let asked = u64::from(index);
        let mut all = self.listeners.values();
        all.find(|l| l.holders.iter().any(|holder| holder.run == run && holder.asked == asked)).map(|l| l.id)
    }

    fn wants_listener(&mut self, run: Run, index: u32, backlog: u16, address: &str) {
        match self.listener_at(run, index, backlog, address) {
            Ok(id) => self.promise(run, index, id),
            Err(errno) => {
                let errno = u16::try_from(errno).unwrap_or(u16::MAX);
                self.say_packet(run, &FromDaemon::Listening { index, errno, address: "" });
            }
        }
    }

    fn listener_at(&mut self, run: Run, index: u32, backlog: u16, address: &str) -> Result<ListenerId, i32> {
        let query = query(index, backlog, address).ok_or(libc::EINVAL)?;
        let known = self.listener_for(run, &query);
        if self.listener_of(run, index).is_some_and(|held| known != Some(held)) {
            return Err(libc::EEXIST);
        }
        let id = known.map_or_else(|| self.open(&query, Balance::RoundRobin), Ok)?;
        // Opened for workers that accept by themselves, before the app's program was exchanged.
        let dealt = self.listeners.get(&id).is_some_and(|l| matches!(l.endpoint, Endpoint::Dealt(_)));
        if dealt { Ok(id) } else { Err(libc::EADDRINUSE) }
    }

    fn promise(&mut self, run: Run, index: u32, id: ListenerId) {
        self.claim(run, index.into(), id);
        let Some(at) = self.listeners.get(&id).map(|listener| listener.address.to_string()) else { return };
        self.say_packet(run, &FromDaemon::Listening { index, errno: 0, address: &at });
        // Only now, so that no connection can overtake the answer.
        self.balancer.serve(id, run);
        self.news(id);
        self.listens(run, at);
    }

    fn stands(&mut self, run: Run, status: Status) {
        let now = self.now();
        let Some(member) = self.members.get_mut(&run) else { return };
        let (taken, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut member.pending).into_iter().partition(|(number, _)| *number <= status.taken);
        member.pending = pending;
        member.connections += taken.len() as u64;
        let Some(own) = member.line.own_mut() else { return };
        let settled = own.asked.take_if(|asked| *asked == status.token);
        for (_, connection) in taken {
            self.balancer.answered(run, now);
            self.taken(connection.listener);
        }
        self.balancer.opened(run, status.open);
        if own_is_sure(self, run) {
            self.balancer.grant(run, status.credit);
        }
        if let Some(token) = settled {
            self.settled(run, token);
        }
        self.let_in(run);
        self.wake_idle();
    }

    fn own_ended(&mut self, run: Run) {
        let greeted = self.members.get(&run).is_some_and(|member| member.line.own().is_some() && member.shares());
        if greeted {
            self.ended(run);
        }
    }
}

/// True if we know what is on its way to it.
fn own_is_sure(state: &ClusterState, run: Run) -> bool {
    state.members.get(&run).and_then(|member| member.line.own()).is_some_and(|own| own.asked.is_none())
}

/// Where a worker wants to listen, worded as Node does.
fn query(index: u32, backlog: u16, address: &str) -> Option<Query<'static>> {
    let asked = u64::from(index);
    let backlog = Some(Number::Is(backlog.into()));
    let query = Query { seq: asked, index: asked, backlog, ..Query::default() };
    if address.starts_with('/') {
        let kind = Some(AddressType::Unix);
        return Some(Query { address: Some(address.to_owned()), port: Some(-1), address_type: kind, ..query });
    }
    if let Some(port) = address.strip_prefix(':') {
        let port = Some(port.parse::<u16>().ok()?.into());
        return Some(Query { port, address_type: Some(AddressType::V4), ..query });
    }
    let at: std::net::SocketAddr = address.parse().ok()?;
    let kind = if at.is_ipv4() { AddressType::V4 } else { AddressType::V6 };
    let host = Some(at.ip().to_string());
    Some(Query { address: host, port: Some(at.port().into()), address_type: Some(kind), ..query })
}

/// Reads a worker's channel to its end.
async fn read(shared: Shared, run: Run, channel: Rc<Channel>) {
    loop {
        let each = |packet: &[u8]| {
            if let Some(state) = shared.upgrade() {
                state.borrow_mut().heard_packet(run, packet);
            }
        };
        if channel.read(each).await == Read::End {
            break;
        }
        backpressure::keep(&shared, run).await;
    }
    if let Some(state) = shared.upgrade() {
        let mut state = state.borrow_mut();
        state.own_ended(run);
        state.tell(Notice::Disconnected { run });
    }
}

/// The worker is gone: what it said last is read.
pub(crate) fn hear_out(state: &RefCell<ClusterState>, run: Run) {
    let own = state.borrow().members.get(&run).and_then(|member| Some(Rc::clone(&member.line.own()?.channel)));
    let Some(channel) = own else { return };
    for _ in 0..LAST_LOOKS {
        if channel.read_now(|packet| state.borrow_mut().heard_packet(run, packet)) != Read::Some {
            return;
        }
    }
}
