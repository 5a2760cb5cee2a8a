//! What a cluster knows: its workers, its listeners, and which connections are between the two.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::balancer::{Balancer, Client, ListenerId};
use super::super::persist::store::{Accepted, StateStore};
use super::super::{ClusterOptions, Notice};
use super::backpressure;
use super::listener::Listener;
use super::node::channel::{Channel, Read};
use super::node::outgoing::Cargo;
use super::probe::ProbeConnection;
use super::transport::Transport;
use crate::os::net::connection;
use crate::protocol::Run;
use crate::spec::Balance;

/// State as the tasks of a cluster hold it: they end when the cluster does.
pub(crate) type Shared = Weak<RefCell<ClusterState>>;

/// All a cluster knows.
#[derive(Debug)]
pub(crate) struct ClusterState {
    /// Itself, for the tasks it starts.
    pub(crate) me: Shared,
    pub(crate) options: ClusterOptions,
    pub(crate) balancer: Balancer,
    pub(crate) members: HashMap<Run, Member>,
    pub(crate) listeners: BTreeMap<ListenerId, Listener>,
    pub(crate) next_listener: u64,
    pub(crate) store: StateStore,
    notices: mpsc::UnboundedSender<Notice>,
    pub(crate) start: Instant,
    /// Workers with connections that wait to be sent.
    pub(crate) unflushed: Vec<Run>,
    pub(crate) probe_connections: Vec<ProbeConnection>,
    seq: Rc<Cell<u64>>,
}

/// A worker with a channel.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its number among the app's processes.
    pub(crate) instance: u32,
    /// Where it says what is Node's, and the app's own messages go.
    pub(crate) ipc: Rc<Channel>,
    /// Where its connections go.
    pub(crate) line: Transport,
    pub(crate) life: watch::Sender<Life>,
    /// Our preload said hello, with `process.version`: it can drain.
    pub(crate) node: Option<String>,
    /// It tells how many connections are open in it; those it takes between two such words we add ourselves.
    pub(crate) counts: bool,
    /// [`super::node::reply::DRAIN`] was sent.
    pub(crate) asked_to_drain: bool,
    /// It was told to disconnect, or is just about to be.
    pub(crate) asked_to_disconnect: bool,
    /// Where it first said that it listens: some go through many ports.
    pub(crate) listening: Option<String>,
    /// It said `ready`.
    pub(crate) ready: bool,
    /// It sent a file; that was acknowledged, and its line is still to be taken away.
    pub(crate) file_acknowledged: bool,
    /// Handed over, not answered for; a handful at most.
    pub(crate) pending: Vec<(u64, Connection)>,
    pub(crate) connections: u64,
    /// Notices of what it said that the owner has not taken in; see [`super::backpressure`].
    pub(crate) unheard: watch::Sender<u32>,
    /// Something unreadable came; said once.
    pub(crate) complained: bool,
    /// The cluster's.
    seq: Rc<Cell<u64>>,
    _reader: AbortOnDropHandle<()>,
}

/// How far along its way out a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// It serves.
    Serving,
    /// It has seen its last connection end.
    Drained,
    /// Its channel is closed.
    Ended,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Rc<Accepted>,
    pub(crate) listener: ListenerId,
    /// Who is at its other end.
    pub(crate) client: Client,
    /// Who turned it down.
    pub(crate) refused: Vec<Run>,
}

impl Member {
    /// The number of our next message. No other in the cluster has it, nor had one of an earlier God.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq.set(self.seq.get() + 1);
        self.seq.get()
    }

    /// Sends a line that carries no file.
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.ipc.send(line, None);
    }

    /// Takes back a connection it was given, by the number of the hand-over.
    pub(crate) fn withdraw(&mut self, seq: u64) -> Option<Connection> {
        let at = self.pending.iter().position(|(number, _)| *number == seq)?;
        Some(self.pending.swap_remove(at).1)
    }

    /// Sends a line with a file that is no connection.
    pub(crate) fn send_file(&mut self, line: String, cargo: Cargo) {
        self.be_sure();
        self.ipc.send(line, Some(cargo));
    }
}

impl Drop for ClusterState {
    fn drop(&mut self) {
        self.store.remove();
    }
}

impl Connection {
    /// One that is with us from now on.
    pub(crate) fn new(socket: Accepted, listener: ListenerId, options: &ClusterOptions) -> Connection {
        let client = match options.balance {
            Balance::Sticky => connection::peer_address(&socket).map(Client::at).unwrap_or_default(),
            Balance::RoundRobin | Balance::Least | Balance::Shared => Client::default(),
        };
        Connection { socket: Rc::new(socket), listener, client, refused: Vec::new() }
    }
}

impl ClusterState {
    pub(crate) fn new(
        options: ClusterOptions,
        store: StateStore,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Rc<RefCell<ClusterState>> {
        let seq = Rc::new(Cell::new(store.first_seq()));
        let mut balancer = Balancer::default();
        balancer.set_rules(options.rules());
        Rc::new_cyclic(|me| {
            RefCell::new(ClusterState {
                me: me.clone(),
                options,
                balancer,
                members: HashMap::new(),
                listeners: BTreeMap::new(),
                next_listener: 0,
                store,
                notices,
                start: Instant::now(),
                unflushed: Vec::new(),
                probe_connections: Vec::new(),
                seq,
            })
        })
    }

    /// Time as the balancer counts it.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells the owner. One that listens no more is about to drop the cluster.
    pub(crate) fn tell(&self, notice: Notice) {
        self.count_unheard(&notice);
        let _ = self.notices.send(notice);
    }

    /// A worker arrives.
    pub(crate) fn join(&mut self, run: Run, instance: u32, ipc: Rc<Channel>, line: Transport) {
        if matches!(line, Transport::Node) {
            self.balancer.join(run, instance);
        }
        let reader = tokio::task::spawn_local(read(self.me.clone(), run, Rc::clone(&ipc)));
        let member = Member {
            instance,
            ipc,
            line,
            life: watch::Sender::new(Life::Serving),
            node: None,
            counts: false,
            asked_to_drain: false,
            asked_to_disconnect: false,
            listening: None,
            ready: false,
            file_acknowledged: false,
            pending: Vec::new(),
            connections: 0,
            unheard: watch::Sender::new(0),
            complained: false,
            seq: Rc::clone(&self.seq),
            _reader: AbortOnDropHandle::new(reader),
        };
        self.members.insert(run, member);
    }

    /// Not in rotation yet.
    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        self.balancer.mark_not_ready(run);
        self.note();
    }

    /// Out of rotation where others serve. What it was handed stays with it.
    pub(crate) fn eject(&mut self, run: Run) {
        self.balancer.eject(run);
        self.note();
    }

    /// In rotation from now on. Connections may have waited for it.
    pub(crate) fn admit(&mut self, run: Run) {
        if self.balancer.admit(run) {
            self.note();
            self.wake_all();
        }
    }

    /// Out of rotation: nothing new goes to it, and what is not even written to its channel goes to another.
    pub(crate) fn exclude(&mut self, run: Run) {
        self.balancer.exclude(run);
        self.keep_listeners_closed_by(run);
        self.look_out();
        self.note();
        let Some(member) = self.members.get_mut(&run) else { return };
        let all = std::mem::take(&mut member.pending);
        let (unsent, sent) = all.into_iter().partition(|(seq, _)| member.recall(*seq));
        member.pending = sent;
        self.place_all(unsent);
        // Somebody may be the last who has not refused, or nobody is left: let the waiting connections be looked at.
        self.wake_all();
    }

    /// The channel's end was read: the worker is dead, or has disconnected. What it has not answered for, it has not
    /// read from, and cannot any more.
    pub(crate) fn ended(&mut self, run: Run) {
        let Some(member) = self.members.get_mut(&run) else { return };
        if *member.life.borrow() == Life::Ended {
            return;
        }
        member.life.send_replace(Life::Ended);
        member.abandon();
        let pending = std::mem::take(&mut member.pending);
        self.balancer.leave(run);
        self.probe_connections.retain(|(wanted, _)| *wanted != run);
        self.release_listeners(run);
        self.note();
        self.place_all(pending);
        self.wake_all();
    }

    pub(crate) fn place_all(&mut self, connections: Vec<(u64, Connection)>) {
        for (_, connection) in connections {
            self.place(connection);
        }
    }
}

/// Reads a worker's channel to its end.
async fn read(shared: Shared, run: Run, channel: Rc<Channel>) {
    loop {
        let each = |line: &[u8]| {
            if let Some(state) = shared.upgrade() {
                state.borrow_mut().heard(run, line);
            }
        };
        if channel.read(each).await == Read::End {
            break;
        }
        if let Some(state) = shared.upgrade() {
            state.borrow_mut().lines_taken(run);
        }
        backpressure::keep(&shared, run).await;
    }
    if let Some(state) = shared.upgrade() {
        let mut state = state.borrow_mut();
        // One with a channel of pmr's own need not keep this one.
        if state.members.get(&run).is_none_or(|member| member.line.own().is_none()) {
            state.ended(run);
        }
        state.tell(Notice::Disconnected { run });
    }
}
