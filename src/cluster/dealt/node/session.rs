//! What the daemon does about each message of a worker on its IPC channel.

use std::cell::RefCell;
use std::rc::Rc;

use super::channel::{Channel, Read};
use super::message::{FromWorker, parse};
use super::outgoing::Attachment;
use super::reply;
use crate::cluster::dealt::backpressure::{LAST_BYTES, LAST_READS, wait_for_owner};
use crate::cluster::dealt::listen_request::ListenRequest;
use crate::cluster::dealt::listener::{Endpoint, Listener};
use crate::cluster::dealt::member::Member;
use crate::cluster::dealt::state::{ClusterState, WeakClusterState};
use crate::cluster::notice::Notice;
use crate::protocol::Run;

/// One worker, while a message of it is handled.
struct NodeSession<'a> {
    state: &'a mut ClusterState,
    run: Run,
}

/// Reads a worker's IPC channel to its end.
pub(crate) async fn read(shared: WeakClusterState, run: Run, channel: Rc<Channel>) {
    loop {
        let each = |line: &[u8]| {
            if let Some(state) = shared.upgrade() {
                NodeSession { state: &mut state.borrow_mut(), run }.handle(line);
            }
        };
        if channel.read(each).await == Read::End {
            break;
        }
        if let Some(state) = shared.upgrade() {
            NodeSession { state: &mut state.borrow_mut(), run }.lines_consumed();
        }
        wait_for_owner(&shared, run).await;
    }
    if let Some(state) = shared.upgrade() {
        let mut state = state.borrow_mut();
        // A worker with a channel of pmr's own need not keep this one open.
        if state.members.get(&run).is_none_or(|member| member.transport.pmr().is_none()) {
            state.ended(run);
        }
        state.notify(Notice::Disconnected { run });
    }
}

/// Reads what is left in the IPC channel of a worker that is gone.
pub(crate) fn read_rest(state: &RefCell<ClusterState>, run: Run) {
    let Some(ipc) = state.borrow().members.get(&run).map(|member| Rc::clone(&member.ipc)) else { return };
    let mut bytes = 0;
    for _ in 0..LAST_READS {
        let each = |line: &[u8]| {
            bytes += line.len() + 1;
            NodeSession { state: &mut state.borrow_mut(), run }.handle(line);
        };
        if ipc.read_now(each) != Read::Some || bytes > LAST_BYTES {
            return;
        }
        NodeSession { state: &mut state.borrow_mut(), run }.lines_consumed();
    }
}

impl NodeSession<'_> {
    fn handle(&mut self, line: &[u8]) {
        let run = self.run;
        match parse(line) {
            Ok(FromWorker::Answer { ack, accepted }) => self.state.answered(run, ack, accepted),
            Ok(FromWorker::HandleAck) => {
                self.member().map(|member| member.ipc.acknowledged());
            }
            Ok(FromWorker::HandleNack) => self.file_lost(),
            Ok(FromWorker::User(data)) => self.state.app_message(run, data),
            Ok(FromWorker::Handle { data }) => {
                self.acknowledge_file();
                self.state.app_message(run, data);
            }
            Ok(FromWorker::Online) => self.state.notify(Notice::Online { run }),
            Ok(FromWorker::Query(request)) => self.listen(&request),
            Ok(FromWorker::Listening(request)) => self.state.worker_listens(run, request.display_address()),
            Ok(FromWorker::Close { key }) => self.state.closed_by_key(run, &key),
            Ok(FromWorker::Leaving { seq }) => self.leaving(seq),
            Ok(FromWorker::Hello { version }) => self.preload_loaded(version),
            Ok(FromWorker::Drained) => self.state.worker_drained(run),
            Ok(FromWorker::Open { count }) => self.set_open_count(count),
            Ok(FromWorker::Unknown) => {}
            Err(_) => self.warn_unreadable(line),
        }
    }

    fn member(&mut self) -> Option<&mut Member> {
        self.state.members.get_mut(&self.run)
    }

    /// The worker sent a file. It sends nothing more before that is acknowledged, and aborts at a second acknowledgement.
    /// So it is saved before that it was sent, until the file's line is taken out of the channel.
    fn acknowledge_file(&mut self) {
        if let Some(member) = self.member().filter(|member| !member.file_acknowledged) {
            member.file_acknowledged = true;
            self.state.save();
            if let Some(member) = self.member() {
                member.send_line(reply::HANDLE_ACK);
            }
        }
    }

    /// The lines handled so far are taken out of the channel: the next daemon does not read them again.
    fn lines_consumed(&mut self) {
        if let Some(member) = self.member().filter(|member| member.file_acknowledged) {
            member.file_acknowledged = false;
            self.state.save();
        }
    }

    /// The oldest file in flight did not arrive. If it was a connection, another worker gets it.
    fn file_lost(&mut self) {
        let lost = self.member().and_then(|member| member.ipc.acknowledged());
        if let Some(seq) = lost {
            self.state.answered(self.run, seq, false);
        }
    }

    /// The app called `worker.disconnect()`. The worker waits for the answer before it closes anything.
    fn leaving(&mut self, seq: u64) {
        self.state.exclude(self.run);
        if let Some(member) = self.member() {
            let own = member.next_seq();
            member.send_line(reply::acknowledge(seq, own));
        }
    }

    fn preload_loaded(&mut self, version: String) {
        if let Some(member) = self.member() {
            member.node_version = Some(version.clone());
            self.state.save();
        }
        self.state.request_open_count(self.run);
        self.state.notify(Notice::NodeVersion { run: self.run, version });
    }

    fn set_open_count(&mut self, open: u32) {
        if let Some(member) = self.member() {
            member.reports_open = true;
            self.state.balancer.set_open(self.run, open);
            self.state.wake_idle();
        }
    }

    fn warn_unreadable(&mut self, line: &[u8]) {
        let run = self.run;
        let Some(member) = self.member() else { return };
        if !std::mem::replace(&mut member.warned_unreadable, true) {
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
            tracing::warn!(
                run = run.0,
                "a worker wrote something else than JSON to its IPC channel, ignored: {shown:?}"
            );
        }
    }

    fn listen(&mut self, request: &ListenRequest<'_>) {
        let run = self.run;
        let known = self.state.listener_for(run, request);
        let balance = self.state.options.balance;
        let id = match known.map_or_else(|| self.state.open(request, balance), Ok) {
            Ok(id) => id,
            Err(errno) => return self.refuse(request, errno),
        };
        self.state.add_holder(run, request.seq, id);
        let (Some(listener), Some(member)) = (self.state.listeners.get(&id), self.state.members.get_mut(&run)) else {
            return;
        };
        let (line, socket) = listen_reply(listener, request.seq, member.next_seq());
        match socket {
            Some(socket) => member.send_file(line, socket),
            None => member.send_line(line),
        }
        // After the reply, so that no connection can overtake it.
        if listener.endpoint.is_dealt() && member.takes_connections() {
            self.state.balancer.serve(id, run);
            self.state.wake_listener(id);
        }
    }

    fn refuse(&mut self, request: &ListenRequest<'_>, errno: i32) {
        if let Some(member) = self.member() {
            let seq = member.next_seq();
            member.send_line(reply::failed(request.seq, errno, "\"\"", seq));
        }
    }
}

/// The reply to a worker that may listen, with the socket if the worker is to accept by itself.
fn listen_reply(listener: &Listener, ack: u64, seq: u64) -> (String, Option<Attachment>) {
    let (key, data) = (&listener.key, listener.data.as_ref().map_or("null", |data| data.get()));
    match &listener.endpoint {
        Endpoint::Dealt(dealt) => (reply::listening(ack, key, data, dealt.ip(), seq), None),
        Endpoint::Shared { socket, udp, .. } => {
            (reply::shared(ack, key, data, *udp, seq), Some(Attachment::Socket(Rc::clone(socket))))
        }
    }
}
