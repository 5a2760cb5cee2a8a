//! What to do about each thing a worker says.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

use super::channel::Read;
use super::message::{AddressType, FromWorker, Query, parse};
use super::outgoing::Cargo;
use super::reply;
use crate::cluster::Notice;
use crate::cluster::balancer::ListenerId;
use crate::cluster::dealt::backpressure::{LAST_BYTES, LAST_LOOKS};
use crate::cluster::dealt::listener::{Endpoint, Holder, Listener};
use crate::cluster::dealt::state::{ClusterState, Life};
use crate::protocol::Run;

/// What an app says that wants to be waited for.
pub(crate) const READY: &str = "ready";

impl ClusterState {
    /// A worker said this line.
    pub(crate) fn heard(&mut self, run: Run, line: &[u8]) {
        match parse(line) {
            Ok(FromWorker::Answer { ack, accepted }) => self.answered(run, ack, accepted),
            Ok(FromWorker::HandleAck) => {
                self.members.get(&run).map(|member| member.ipc.acknowledged());
            }
            Ok(FromWorker::HandleNack) => self.not_arrived(run),
            Ok(FromWorker::User(data)) => self.said(run, data),
            Ok(FromWorker::Handle { data }) => {
                self.acknowledge_file(run);
                self.said(run, data);
            }
            Ok(FromWorker::Online) => self.tell(Notice::Online { run }),
            Ok(FromWorker::Query(query)) => self.wants_to_listen(run, &query),
            Ok(FromWorker::Listening(query)) => self.listens(run, shown(&query)),
            Ok(FromWorker::Close { key }) => self.closed(run, &key),
            Ok(FromWorker::Leaving { seq }) => self.leaving(run, seq),
            Ok(FromWorker::Hello { version }) => self.preload_is_in(run, version),
            Ok(FromWorker::Drained) => self.drained(run),
            Ok(FromWorker::Open { count }) => self.counted(run, count),
            Ok(FromWorker::Unknown) => {}
            Err(_) => self.complain(run, line),
        }
    }

    /// The app's own message.
    pub(crate) fn said(&mut self, run: Run, data: Value) {
        if data.as_str() == Some(READY)
            && let Some(member) = self.members.get_mut(&run).filter(|member| !member.ready)
        {
            member.ready = true;
            self.note();
        }
        self.tell(Notice::Message { run, data });
    }

    pub(crate) fn listens(&mut self, run: Run, address: String) {
        if let Some(member) = self.members.get_mut(&run).filter(|member| member.listening.is_none()) {
            member.listening = Some(address.clone());
            self.note();
        }
        self.tell(Notice::Listening { run, address });
    }

    /// It sent a file and says nothing more before we have acknowledged it; twice, and it aborts. So that is noted
    /// before, until its line is taken away.
    fn acknowledge_file(&mut self, run: Run) {
        if let Some(member) = self.members.get_mut(&run).filter(|member| !member.file_acknowledged) {
            member.file_acknowledged = true;
            self.note();
            if let Some(member) = self.members.get(&run) {
                member.say(reply::HANDLE_ACK);
            }
        }
    }

    /// What it said so far will not be heard again.
    pub(crate) fn lines_taken(&mut self, run: Run) {
        if let Some(member) = self.members.get_mut(&run).filter(|member| member.file_acknowledged) {
            member.file_acknowledged = false;
            self.note();
        }
    }

    /// The oldest file under way got lost. If it was a connection, another gets it, for the worker cannot have it.
    fn not_arrived(&mut self, run: Run) {
        let lost = self.members.get(&run).and_then(|member| member.ipc.acknowledged());
        if let Some(seq) = lost {
            self.answered(run, seq, false);
        }
    }

    /// It leaves of its own accord. It waits for our answer before it closes anything.
    fn leaving(&mut self, run: Run, seq: u64) {
        self.exclude(run);
        if let Some(member) = self.members.get_mut(&run) {
            let own = member.next_seq();
            member.say(reply::acknowledge(seq, own));
        }
    }

    fn preload_is_in(&mut self, run: Run, version: String) {
        if let Some(member) = self.members.get_mut(&run) {
            member.node = Some(version.clone());
            self.note();
        }
        self.ask_to_count(run);
        self.tell(Notice::NodeVersion { run, version });
    }

    /// Has a worker's preload tell how many connections are open, if somebody goes by that.
    pub(crate) fn ask_to_count(&self, run: Run) {
        let member = self.members.get(&run).filter(|member| member.node.is_some() && self.balancer.goes_by_open());
        if let Some(member) = member {
            member.say(reply::COUNT);
        }
    }

    fn counted(&mut self, run: Run, open: u32) {
        if let Some(member) = self.members.get_mut(&run) {
            member.counts = true;
            self.balancer.opened(run, open);
            self.wake_idle();
        }
    }

    pub(crate) fn drained(&mut self, run: Run) {
        if let Some(member) = self.members.get(&run) {
            member.life.send_if_modified(|life| std::mem::replace(life, Life::Drained.max(*life)) < *life);
            self.note();
        }
    }

    fn complain(&mut self, run: Run, line: &[u8]) {
        let Some(member) = self.members.get_mut(&run) else { return };
        if !std::mem::replace(&mut member.complained, true) {
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
            tracing::warn!(
                run = run.0,
                "a worker wrote something else than JSON to its IPC channel, ignored: {shown:?}"
            );
        }
    }

    fn wants_to_listen(&mut self, run: Run, query: &Query<'_>) {
        let known = self.listener_for(run, query);
        let listener = match known.map_or_else(|| self.open(query, self.options.balance), Ok) {
            Ok(listener) => listener,
            Err(errno) => return self.refuse(run, query, errno),
        };
        self.claim(run, query.seq, listener);
        let (Some(listener), Some(member)) = (self.listeners.get(&listener), self.members.get_mut(&run)) else {
            return;
        };
        let (line, cargo) = welcome(listener, query.seq, member.next_seq());
        match cargo {
            Some(cargo) => member.send_file(line, cargo),
            None => member.say(line),
        }
        // Only now, so that no connection can overtake the answer.
        if matches!(listener.endpoint, Endpoint::Dealt(_)) && member.shares() {
            let id = listener.id;
            self.balancer.serve(id, run);
            self.news(id);
        }
    }

    fn refuse(&mut self, run: Run, query: &Query<'_>, errno: i32) {
        if let Some(member) = self.members.get_mut(&run) {
            let seq = member.next_seq();
            member.say(reply::failed(query.seq, errno, "\"\"", seq));
        }
    }

    /// The listener of this description that this worker does not hold yet, or holds because of this very question,
    /// which the God before us heard, too.
    pub(crate) fn listener_for(&self, run: Run, query: &Query<'_>) -> Option<ListenerId> {
        let name = query.name();
        let mut known = self.listeners.values().filter(|listener| listener.name == name);
        let asked = |holder: &Holder| holder.run == run && holder.asked == query.seq;
        let again = known.clone().find(|listener| listener.holders.iter().any(asked));
        again.or_else(|| known.find(|listener| !listener.is_held_by(run))).map(|listener| listener.id)
    }
}

/// The worker is gone: what it said last is read.
pub(crate) fn hear_out(state: &RefCell<ClusterState>, run: Run) {
    let Some(ipc) = state.borrow().members.get(&run).map(|member| Rc::clone(&member.ipc)) else { return };
    let mut said = 0;
    for _ in 0..LAST_LOOKS {
        let hear = |line: &[u8]| {
            said += line.len() + 1;
            state.borrow_mut().heard(run, line);
        };
        if ipc.read_now(hear) != Read::Some || said > LAST_BYTES {
            return;
        }
        state.borrow_mut().lines_taken(run);
    }
}

/// The answer to one who may listen, with the socket if it is to accept by itself.
fn welcome(listener: &Listener, ack: u64, seq: u64) -> (String, Option<Cargo>) {
    let (key, data) = (&listener.key, listener.data.as_ref().map_or("null", |data| data.get()));
    match &listener.endpoint {
        Endpoint::Dealt(dealt) => (reply::listening(ack, key, data, dealt.ip(), seq), None),
        Endpoint::Shared { socket, udp, .. } => {
            (reply::shared(ack, key, data, *udp, seq), Some(Cargo::Socket(Rc::clone(socket))))
        }
    }
}

/// What the worker says it listens on, for people.
fn shown(query: &Query<'_>) -> String {
    let port = query.port.unwrap_or(0);
    let host = query.address.as_deref();
    match (query.address_type, host) {
        (Some(AddressType::Unix), Some(path)) => path.to_owned(),
        (Some(AddressType::V6), Some(host)) => format!("[{host}]:{port}"),
        (Some(AddressType::Udp6), Some(host)) => format!("udp [{host}]:{port}"),
        (Some(AddressType::Udp6), None) => format!("udp [::]:{port}"),
        (Some(AddressType::Udp4), host) => format!("udp {}:{port}", host.unwrap_or("0.0.0.0")),
        (_, Some(host)) => format!("{host}:{port}"),
        (_, None) => format!("[::]:{port}"),
    }
}
