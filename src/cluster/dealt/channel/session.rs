//! What the daemon does about each message of a worker on a channel of pmr's own protocol.

use std::cell::RefCell;
use std::rc::Rc;

use super::packets::{Channel, Read};
use crate::cluster::balancer::ListenerId;
use crate::cluster::dealt::backpressure::{LAST_READS, wait_for_owner};
use crate::cluster::dealt::listen_request::{AddressType, ListenRequest, Number};
use crate::cluster::dealt::member::Member;
use crate::cluster::dealt::state::{ClusterState, READY, WeakClusterState};
use crate::cluster::notice::Notice;
use crate::protocol::Run;
use crate::protocol::channel::{DecodeError, FromDaemon, FromWorker, MOST, Status, VERSION};
use crate::spec::Balance;

/// One worker, while a message of it is handled.
pub(crate) struct PmrSession<'a> {
    state: &'a mut ClusterState,
    run: Run,
}

/// Reads a worker's channel to its end.
pub(crate) async fn read(shared: WeakClusterState, run: Run, channel: Rc<Channel>) {
    loop {
        let each = |packet: &[u8]| {
            if let Some(state) = shared.upgrade() {
                PmrSession::new(&mut state.borrow_mut(), run).handle(packet);
            }
        };
        if channel.read(each).await == Read::End {
            break;
        }
        wait_for_owner(&shared, run).await;
    }
    if let Some(state) = shared.upgrade() {
        let mut state = state.borrow_mut();
        let member = state.members.get(&run);
        if member.is_some_and(|member| member.transport.pmr().is_some() && member.takes_connections()) {
            state.ended(run);
        }
        state.notify(Notice::Disconnected { run });
    }
}

/// Reads what is left in the channel of a worker that is gone.
pub(crate) fn read_rest(state: &RefCell<ClusterState>, run: Run) {
    let pmr = state.borrow().members.get(&run).and_then(|member| Some(Rc::clone(&member.transport.pmr()?.channel)));
    let Some(channel) = pmr else { return };
    for _ in 0..LAST_READS {
        let each = |packet: &[u8]| PmrSession::new(&mut state.borrow_mut(), run).handle(packet);
        if channel.read_now(each) != Read::Some {
            return;
        }
    }
}

impl PmrSession<'_> {
    pub(crate) fn new(state: &mut ClusterState, run: Run) -> PmrSession<'_> {
        PmrSession { state, run }
    }

    fn handle(&mut self, packet: &[u8]) {
        let run = self.run;
        let welcomed = self.member().and_then(|member| member.transport.pmr()).is_some_and(|pmr| pmr.welcomed);
        let message = FromWorker::decode(packet);
        if !welcomed && !matches!(message, Ok(FromWorker::Hello { .. })) {
            return self.warn_unreadable(packet);
        }
        match message {
            Ok(FromWorker::Hello { version: VERSION }) => self.hello(),
            Ok(FromWorker::Hello { version }) => self.reject_version(version),
            Err(DecodeError::Garbage) => self.warn_unreadable(packet),
            // A message of a later version that speaks this one, too.
            Err(DecodeError::Unknown) => {}
            Ok(FromWorker::Listen { index, backlog, address }) => self.listen(index, backlog, address),
            Ok(FromWorker::Close { index }) => {
                if let Some(id) = self.state.listener_of_request(run, index.into()) {
                    self.state.closed_by(run, id);
                }
            }
            Ok(FromWorker::Status(status)) => self.status(status),
            Ok(FromWorker::Refuse { number }) => self.state.answered(run, number, false),
            Ok(FromWorker::Ready) => self.state.app_message(run, READY.into()),
            Ok(FromWorker::Drained) => self.state.worker_drained(run),
        }
    }

    fn member(&mut self) -> Option<&mut Member> {
        self.state.members.get_mut(&self.run)
    }

    fn send(&self, message: &FromDaemon<'_>) {
        if let Some(pmr) = self.state.members.get(&self.run).and_then(|member| member.transport.pmr()) {
            pmr.channel.send_message(message);
        }
    }

    fn hello(&mut self) {
        self.send(&FromDaemon::Welcome { version: VERSION, most: u32::try_from(MOST).unwrap_or(1) });
        self.welcome();
        self.state.save();
    }

    /// From now on connections may be dealt to the worker, once it grants credit.
    pub(crate) fn welcome(&mut self) {
        let run = self.run;
        let Some(member) = self.member() else { return };
        let instance = member.instance;
        if member.transport.pmr_mut().is_some_and(|pmr| !std::mem::replace(&mut pmr.welcomed, true)) {
            self.state.balancer.join(run, instance);
            self.state.balancer.set_credit(run, 0);
        }
    }

    fn reject_version(&mut self, version: u16) {
        tracing::warn!(
            run = self.run.0,
            "a worker speaks version {version} of the worker protocol, and this daemon version {VERSION} only"
        );
        self.send(&FromDaemon::Unwelcome { oldest: VERSION, newest: VERSION });
    }

    fn warn_unreadable(&mut self, packet: &[u8]) {
        let run = self.run;
        let Some(member) = self.member() else { return };
        if !std::mem::replace(&mut member.warned_unreadable, true) {
            let shown = packet[..packet.len().min(40)].escape_ascii();
            tracing::warn!(run = run.0, "a worker wrote something strange to its channel, ignored: \"{shown}\"");
        }
    }

    fn listen(&mut self, index: u32, backlog: u16, address: &str) {
        match self.find_or_open(index, backlog, address) {
            Ok(id) => self.confirm_listen(index, id),
            Err(errno) => {
                let errno = u16::try_from(errno).unwrap_or(u16::MAX);
                self.send(&FromDaemon::Listening { index, errno, address: "" });
            }
        }
    }

    fn find_or_open(&mut self, index: u32, backlog: u16, address: &str) -> Result<ListenerId, i32> {
        let request = listen_request(index, backlog, address).ok_or(libc::EINVAL)?;
        let known = self.state.listener_for(self.run, &request);
        if self.state.listener_of_request(self.run, index.into()).is_some_and(|held| known != Some(held)) {
            return Err(libc::EEXIST);
        }
        let id = known.map_or_else(|| self.state.open(&request, Balance::RoundRobin), Ok)?;
        // It is not dealt if it was opened for workers that accept by themselves, before the app's program was
        // replaced.
        let is_dealt = self.state.listeners.get(&id).is_some_and(|listener| listener.endpoint.is_dealt());
        if is_dealt { Ok(id) } else { Err(libc::EADDRINUSE) }
    }

    fn confirm_listen(&mut self, index: u32, id: ListenerId) {
        self.state.add_holder(self.run, index.into(), id);
        let Some(at) = self.state.listeners.get(&id).map(|listener| listener.address.to_string()) else { return };
        self.send(&FromDaemon::Listening { index, errno: 0, address: &at });
        // After the reply, so that no connection can overtake it.
        self.state.balancer.serve(id, self.run);
        self.state.wake_listener(id);
        self.state.worker_listens(self.run, at);
    }

    /// The worker reported which connections it has taken, how many are open, and how many more it is ready for.
    fn status(&mut self, status: Status) {
        let (run, now) = (self.run, self.state.now());
        let Some(member) = self.member() else { return };
        let (taken, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut member.pending).into_iter().partition(|(number, _)| *number <= status.taken);
        member.pending = pending;
        member.connections += taken.len() as u64;
        let Some(pmr) = member.transport.pmr_mut() else { return };
        let synced = pmr.sync_token.take_if(|token| *token == status.token);
        // Before the sync is answered, it is not known what is in flight.
        let is_synced = pmr.sync_token.is_none();
        for (_, connection) in taken {
            self.state.balancer.answered(run, now);
            self.state.reset_backoff(connection.listener);
        }
        self.state.balancer.set_open(run, status.open);
        if is_synced {
            self.state.balancer.set_credit(run, status.credit);
        }
        if let Some(token) = synced {
            self.state.synced(run, token);
        }
        self.state.serve_probes(run);
        self.state.wake_idle();
    }
}

/// A request of pmr's own protocol, worded as Node does.
fn listen_request(index: u32, backlog: u16, address: &str) -> Option<ListenRequest<'static>> {
    let number = u64::from(index);
    let backlog = Some(Number::Is(backlog.into()));
    let request = ListenRequest { seq: number, index: number, backlog, ..ListenRequest::default() };
    if address.starts_with('/') {
        let kind = Some(AddressType::Unix);
        return Some(ListenRequest {
            address: Some(address.to_owned()),
            port: Some(-1),
            address_type: kind,
            ..request
        });
    }
    if let Some(port) = address.strip_prefix(':') {
        let port = Some(port.parse::<u16>().ok()?.into());
        return Some(ListenRequest { port, address_type: Some(AddressType::V4), ..request });
    }
    let at: std::net::SocketAddr = address.parse().ok()?;
    let kind = if at.is_ipv4() { AddressType::V4 } else { AddressType::V6 };
    let host = Some(at.ip().to_string());
    Some(ListenRequest { address: host, port: Some(at.port().into()), address_type: Some(kind), ..request })
}
