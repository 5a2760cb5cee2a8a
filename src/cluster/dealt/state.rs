//! All that a cluster knows of connections that pass through the daemon: its workers, its listeners, and the
//! connections between them. Each change that the next daemon must know of is saved here, and each notice is sent from
//! here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::TcpStream;
use std::rc::{Rc, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::listener::Listener;
use super::member::{Life, Member};
use super::node::reply;
use super::record::{ListenerRecord, MemberRecord, Record};
use crate::cluster::balancer::{Balancer, ListenerId};
use crate::cluster::notice::Notice;
use crate::cluster::options::ClusterOptions;
use crate::cluster::persist::StateStore;
use crate::protocol::Run;

/// The message by which an app reports that it is ready (`process.send('ready')`).
pub(crate) const READY: &str = "ready";

/// The state as the tasks of a cluster hold it: they end when the cluster does.
pub(crate) type WeakClusterState = Weak<RefCell<ClusterState>>;

/// All that a cluster knows.
#[derive(Debug)]
pub(crate) struct ClusterState {
    /// Itself, for the tasks it starts.
    pub(crate) me: WeakClusterState,
    pub(crate) options: ClusterOptions,
    pub(crate) balancer: Balancer,
    pub(crate) members: HashMap<Run, Member>,
    pub(crate) listeners: BTreeMap<ListenerId, Listener>,
    /// The number of the last listener. Never goes back.
    pub(crate) next_listener: u64,
    pub(crate) store: StateStore,
    notices: mpsc::UnboundedSender<Notice>,
    /// The balancer's time begins here.
    pub(crate) start: Instant,
    /// Workers with connections that wait to be sent.
    pub(crate) unflushed: Vec<Run>,
    pub(crate) probes: Vec<PendingProbe>,
    /// The last message number, shared with the members.
    pub(crate) seq: Rc<Cell<u64>>,
}

/// A request for a connection to a worker that is not ready for one more.
#[derive(Debug)]
pub(crate) struct PendingProbe {
    pub(crate) run: Run,
    /// Gets the client's end of the connection.
    pub(crate) reply: oneshot::Sender<io::Result<TcpStream>>,
}

impl Drop for ClusterState {
    fn drop(&mut self) {
        self.store.remove();
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
                probes: Vec::new(),
                seq,
            })
        })
    }

    /// The balancer's time.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Sends a notice to the owner. An owner that has closed its end is about to drop the cluster.
    pub(crate) fn notify(&self, notice: Notice) {
        if let Some(member) = notice.sender().and_then(|run| self.members.get(&run)) {
            member.unhandled.send_modify(|count| *count = count.saturating_add(1));
        }
        let _ = self.notices.send(notice);
    }

    /// Writes the record.
    pub(crate) fn save(&self) {
        self.put_record();
        self.store.commit();
    }

    /// Puts the record; it is written with the next commit.
    pub(crate) fn put_record(&self) {
        match serde_json::to_string(&self.record()) {
            Ok(json) => self.store.put(&json),
            Err(error) => tracing::error!(%error, "the state of a cluster cannot be written down"),
        }
    }

    fn record(&self) -> Record {
        let member = |(run, member): (&Run, &Member)| MemberRecord::of(*run, member, &self.balancer);
        let mut members: Vec<MemberRecord> = self.members.iter().map(member).collect();
        members.sort_by_key(|member| member.run);
        let listeners = self.listeners.values().map(ListenerRecord::from).collect();
        Record { next_listener: self.next_listener, listeners, members }
    }

    /// The app sent a message of its own.
    pub(crate) fn app_message(&mut self, run: Run, data: Value) {
        if data.as_str() == Some(READY)
            && let Some(member) = self.members.get_mut(&run).filter(|member| !member.ready)
        {
            member.ready = true;
            self.save();
        }
        self.notify(Notice::Message { run, data });
    }

    /// The worker listens at this address.
    pub(crate) fn worker_listens(&mut self, run: Run, address: String) {
        if let Some(member) = self.members.get_mut(&run).filter(|member| member.listening.is_none()) {
            member.listening = Some(address.clone());
            self.save();
        }
        self.notify(Notice::Listening { run, address, accepts: true });
    }

    /// The worker's last connection has ended.
    pub(crate) fn worker_drained(&mut self, run: Run) {
        if let Some(member) = self.members.get(&run) {
            member.life.send_if_modified(|life| std::mem::replace(life, Life::Drained.max(*life)) < *life);
            self.save();
        }
    }

    /// Has a worker's preload module report how many connections are open, if the policy needs that.
    pub(crate) fn request_open_count(&self, run: Run) {
        let needed = self.balancer.needs_open_count();
        if let Some(member) = self.members.get(&run).filter(|member| member.node_version.is_some() && needed) {
            member.send_line(reply::COUNT);
        }
    }

    /// Who serves this listener has changed: its task looks again at once.
    pub(crate) fn wake_listener(&mut self, id: ListenerId) {
        if let Some(dealt) = self.listeners.get_mut(&id).and_then(|listener| listener.dealt()) {
            dealt.retry_at = None;
            dealt.changed.notify_one();
        }
    }

    /// The rotation has changed: the tasks of all listeners look again at once.
    pub(crate) fn wake_all(&mut self) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.wake_listener(id);
        }
    }

    /// A worker has room again: the tasks that wait for that look again.
    pub(crate) fn wake_idle(&mut self) {
        for dealt in self.listeners.values_mut().filter_map(|listener| listener.dealt()) {
            if std::mem::take(&mut dealt.idle) {
                dealt.changed.notify_one();
            }
        }
    }
}
