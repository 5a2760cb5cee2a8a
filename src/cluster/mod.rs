//! Shared listening sockets and the channels to the workers that share them.
//!
//! A [`Cluster`] belongs to one app. The workers come and go; what they listen on stays. Connections reach them in one
//! of two ways. Through us, where the worker speaks Node's cluster protocol (`node`) or pmr's own (`channel`):
//!
//! ```text
//!  kernel queue ─► dispatcher ─► balancer: whose turn? ─► node or channel ─► worker
//!                      ▲                                   │
//!                      └── refused, dead, out of rotation ◄┘ answers
//! ```
//!
//! Or past us, from an accept queue of each worker's own (`queues`), of which we hold a copy and which the kernel deals
//! to: sockets that programs bind, and that are taken over (`takeover`), or that they are given (`activation`).
//!
//! The owner tells it who joined, who is about to leave and who is gone; it tells the owner by [`Notice`]s what workers
//! say, and no more of it than he takes in (`pace`). All of it runs on one thread, inside a [`tokio::task::LocalSet`].

mod balancer;
pub(crate) mod dealt;
pub(crate) mod kernel;
mod own_connections;
pub(crate) mod persist;
mod waiting;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use self::balancer::Rules;
use self::dealt::node::channel::Channel;
use self::dealt::node::reply;
pub use self::dealt::probe::Unreachable;
use self::dealt::state::{ClusterState, Member};
use self::dealt::transport::Transport;
pub use self::kernel::activation::{Activation, activation_key};
use self::kernel::intercept::BindInterceptor;
pub use self::kernel::intercept::handover_name;
use self::kernel::queues::Queues;
pub use self::kernel::queues::queues_key;
pub use self::own_connections::Call;
use self::persist::store::StateStore;
pub use self::persist::store::{Persistence, RecoveredCluster, channel_name, own_channel_name, record_key};
use crate::os::net::reuseport::{Deal, KernelBalancing};
use crate::os::seccomp::{BindWatch, Pending};
use crate::protocol::{ListenerInfo, Run};
use crate::spec::{Balance, QueueRule, Sharing};

/// A module for Node workers (`--require`) that lets keep-alive and HTTP/2 connections end without loss when a worker is
/// drained. Inert in any other process. Plain CommonJS for Node 16 and later.
pub const PRELOAD: &str = include_str!("preload.cjs");

/// How a cluster works.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// How connections reach the workers.
    pub balance: Balance,
    /// Which ports workers share that know nothing of it.
    pub sharing: Sharing,
    /// What becomes of those no worker is ready for.
    pub queue: QueueRule,
}

impl ClusterOptions {
    fn rules(&self) -> Rules {
        Rules { balance: self.balance, max_connections: self.queue.max_connections }
    }

    /// What the kernel can do of it, where it deals.
    fn deal(&self) -> Deal {
        match self.balance {
            Balance::Sticky => Deal::ByAddress,
            Balance::RoundRobin | Balance::Least | Balance::Shared => Deal::Each,
        }
    }
}

/// The part a worker takes in the cluster.
#[derive(Debug)]
pub enum WorkerProtocol {
    /// None: it only sends and receives messages.
    None,
    /// It got a `NODE_UNIQUE_ID`.
    Node,
    /// It got the other end of this as `PMR_CHANNEL_FD`, and takes part if it says hello there.
    Channel(OwnedFd),
}

/// What a cluster tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Node is up in the worker; the app's code has not run yet.
    Online {
        /// Who.
        run: Run,
    },
    /// The app listens. Comes for each listener of each worker; not for those it opened past the cluster (`exclusive`).
    Listening {
        /// Who.
        run: Run,
        /// Where: `127.0.0.1:3000`, `[::]:3000`, `/run/x.sock`, `udp 0.0.0.0:53`.
        address: String,
    },
    /// The app called `process.send`.
    Message {
        /// Who.
        run: Run,
        /// With this.
        data: Value,
    },
    /// Our preload is in.
    NodeVersion {
        /// Who.
        run: Run,
        /// `process.version`.
        version: String,
    },
    /// [`Cluster::drain`] has done what it could: the worker has disconnected, or the time is up.
    Drained {
        /// Who.
        run: Run,
    },
    /// A worker could not have what it wanted to listen on.
    ListenFailed {
        /// Who.
        run: Run,
        /// In words: `port 80 is in use by pid 17 (nginx)`.
        why: String,
    },
    /// Nobody has been connected to the app for its idle timeout.
    Idle {
        /// Its number.
        app: u32,
    },
    /// Connections wait for the app, and nobody takes them.
    Demand {
        /// Its number.
        app: u32,
    },
    /// The worker closed its channel, or died. Comes before or after the news of its exit.
    Disconnected {
        /// Who.
        run: Run,
    },
}

/// The cluster of one app. Clones are the same cluster. When the last is dropped, its listeners close.
#[derive(Clone, Debug)]
pub struct Cluster {
    state: Rc<RefCell<ClusterState>>,
    queues: Queues,
    takeover: BindInterceptor,
    activation: Activation,
}

impl Cluster {
    /// A cluster without workers or listeners.
    #[must_use]
    pub fn new(
        options: ClusterOptions,
        app: u32,
        persistence: Persistence,
        notices: UnboundedSender<Notice>,
    ) -> Cluster {
        let store = StateStore { app, persistence };
        let queues = Queues::new(store.clone(), KernelBalancing::RoundRobin, notices.clone());
        let takeover = BindInterceptor::new(store.clone(), queues.clone(), options.sharing.clone(), notices.clone());
        let activation = Activation::new(queues.clone(), store.clone(), notices.clone());
        queues.set_rule(options.queue);
        activation.set_rule(options.queue);
        queues.set_deal(options.deal());
        Cluster { state: ClusterState::new(options, store, notices), queues, takeover, activation }
    }

    /// The cluster that the God before left, with all it was about to do. What belongs to it is taken out of `recovered`.
    /// What workers told him is told again, as far as it still matters. Must be called inside the runtime's `LocalSet`.
    ///
    /// # Errors
    /// A sentence, if the record makes no sense.
    pub fn recover(
        options: ClusterOptions,
        app: u32,
        persistence: Persistence,
        notices: UnboundedSender<Notice>,
        recovered: RecoveredCluster<'_>,
    ) -> Result<Cluster, String> {
        let store = StateStore { app, persistence };
        let queues = match recovered.records.get(&queues_key(app)) {
            Some(record) => {
                Queues::adopt(store.clone(), KernelBalancing::RoundRobin, notices.clone(), record, recovered.files)?
            }
            None => Queues::new(store.clone(), KernelBalancing::RoundRobin, notices.clone()),
        };
        queues.set_rule(options.queue);
        let takeover = BindInterceptor::new(store.clone(), queues.clone(), options.sharing.clone(), notices.clone());
        takeover.adopt(recovered.records, recovered.files);
        let activation = Activation::new(queues.clone(), store.clone(), notices.clone());
        if let Some(record) = recovered.records.get(&activation_key(app)) {
            activation.adopt(record, recovered.files)?;
        }
        activation.set_rule(options.queue);
        let deal = options.deal();
        let state = persist::recover::recover(options, store, notices, recovered)?;
        // Queues of a version before know no numbers.
        state.borrow().members.iter().for_each(|(run, member)| queues.number(*run, member.instance));
        queues.set_deal(deal);
        Ok(Cluster { state, queues, takeover, activation })
    }

    /// True if a God wrote down anything of this app's cluster.
    #[must_use]
    pub fn is_known(app: u32, records: &BTreeMap<String, String>) -> bool {
        [record_key(app), queues_key(app), activation_key(app)].iter().any(|key| records.contains_key(key))
    }

    /// The sockets the app is given.
    #[must_use]
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// A worker was started with the other end of `ipc` as its IPC descriptor, as the process of this number in the app.
    ///
    /// Must be called inside the runtime's `LocalSet`.
    pub fn join(&self, run: Run, instance: u32, ipc: OwnedFd, part: WorkerProtocol) {
        self.queues.number(run, instance);
        let mut state = self.state.borrow_mut();
        let kept = state.store.keep(channel_name(run), &ipc);
        match Channel::new(ipc, run, kept) {
            Ok(ipc) => {
                let line = match part {
                    WorkerProtocol::None => Transport::Apart,
                    WorkerProtocol::Node => Transport::Node,
                    WorkerProtocol::Channel(channel) => state.own_line(run, channel),
                };
                state.join(run, instance, ipc, line);
                state.note();
            }
            Err(error) => {
                tracing::error!(run = run.0, %error, "cannot watch the IPC channel of a worker: closed");
                state.tell(Notice::Disconnected { run });
            }
        }
    }

    /// A worker was started under this watch, with `root` as its main process: what it binds and listens on, it shares.
    ///
    /// Must be called inside the runtime's `LocalSet`.
    pub fn watch(&self, run: Run, root: i32, watch: BindWatch) {
        self.takeover.watch(run, root, watch);
    }

    /// The same where the watch was not taken yet when the God before died.
    pub fn expect_watch(&self, run: Run, root: i32, pending: Pending) {
        self.takeover.expect(run, root, pending);
    }

    /// A worker that listens before it is ready: no connection goes to it before [`Cluster::admit`]. To be said before it
    /// starts. Where all accept from one queue, or only the kernel's hash deals, this has no effect.
    pub fn mark_not_ready(&self, run: Run) {
        self.queues.mark_not_ready(run);
        self.state.borrow_mut().mark_not_ready(run);
    }

    /// A worker that is ready is unwell: no new connection goes to it before [`Cluster::admit`] that another worker could
    /// have, at each address by itself. What it has goes on, and it can be asked how it is ([`Cluster::probe`]). Where all
    /// accept from one queue, or only the kernel's hash deals, this has no effect.
    pub fn eject(&self, run: Run) {
        self.queues.eject(run);
        self.state.borrow_mut().eject(run);
    }

    /// A worker is ready, or well again: it takes its turns from now on.
    pub fn admit(&self, run: Run) {
        self.queues.admit(run);
        self.state.borrow_mut().admit(run);
    }

    /// Out of rotation at once: no new connection goes to this worker. For one that is about to be stopped: what it
    /// closes from now on stays open for its successor.
    pub fn exclude(&self, run: Run) {
        if self.activation.knows(run) {
            self.activation.exclude(run);
        } else {
            self.queues.exclude(run);
        }
        self.state.borrow_mut().exclude(run);
    }

    /// Out of rotation, and let it finish: its connections end where the protocol allows, then it disconnects. Ends in
    /// one [`Notice::Drained`], after `grace` at the latest, unless [`Cluster::gone`] comes first.
    pub fn drain(&self, run: Run, grace: Duration) {
        if self.activation.knows(run) {
            return self.activation.drain(run, grace);
        }
        self.exclude(run);
        let takes_ours = self.state.borrow().members.get(&run).is_some_and(Member::shares);
        if takes_ours || self.queues.begun_by(run).is_empty() {
            self.state.borrow_mut().drain(run, grace);
        } else {
            self.queues.drain(run, grace);
        }
    }

    /// A message to the app: its `process.on('message')` gets it.
    pub fn send(&self, run: Run, message: &Value) {
        if let Some(member) = self.state.borrow().members.get(&run) {
            member.say(reply::user(message));
        }
    }

    /// The worker's process has ended. What it said last is read, what it had not taken goes to others, then it is
    /// forgotten.
    pub fn gone(&self, run: Run) {
        self.takeover.gone(run);
        if self.activation.knows(run) {
            self.activation.gone(run);
        } else {
            self.queues.gone(run);
        }
        if !self.state.borrow().members.contains_key(&run) {
            return self.state.borrow_mut().balancer.leave(run);
        }
        dealt::node::conversation::hear_out(&self.state, run);
        dealt::channel::conversation::hear_out(&self.state, run);
        let mut state = self.state.borrow_mut();
        state.ended(run);
        let member = state.members.remove(&run);
        state.note();
        if let Some(member) = member {
            member.release();
        }
    }

    /// What the app listens on through us.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let state = self.state.borrow();
        let on_channel = |run| state.members.get(&run).is_some_and(|member| member.line.own().is_some());
        let listeners = state.listeners.values();
        let mut all: Vec<_> = listeners.map(|listener| listener.info(state.options.balance, on_channel)).collect();
        all.extend(self.activation.listeners());
        all
    }

    /// What this worker has to do right now: connections that wait for it alone, and those it has open. `None` where it
    /// listens on nothing of its own.
    #[must_use]
    pub fn load(&self, run: Run) -> Option<(u32, u32)> {
        self.queues.stats(run).map(|stats| (stats.waiting, stats.open))
    }

    /// Connections this worker took so far; those it accepts by itself are not counted.
    #[must_use]
    pub fn connections(&self, run: Run) -> u64 {
        self.state.borrow().members.get(&run).map_or(0, |member| member.connections)
    }

    /// From now on it works this way. Listeners that are open stay as they are.
    pub fn set_options(&self, options: ClusterOptions) {
        let mut state = self.state.borrow_mut();
        let counted = state.balancer.goes_by_open();
        state.balancer.set_rules(options.rules());
        self.takeover.set_rules(options.sharing.clone());
        self.queues.set_rule(options.queue);
        self.activation.set_rule(options.queue);
        self.queues.set_deal(options.deal());
        state.options = options;
        state.look_out();
        // Who was asked before tells by himself.
        if !counted {
            state.members.keys().for_each(|run| state.ask_to_count(*run));
        }
    }

    /// The app is deleted: its listeners close, socket files are removed, waiting connections are reset.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        let ids: Vec<_> = state.listeners.keys().copied().collect();
        state.close_listeners(&ids);
        self.activation.close();
    }
}

#[cfg(test)]
mod tests;
