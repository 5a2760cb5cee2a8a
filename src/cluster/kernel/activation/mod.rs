//! Socket activation: the sockets an app's owner named are ours, and its workers find them open from descriptor 3 on.
//!
//! | socket | whose | a worker that leaves |
//! |---|---|---|
//! | TCP, UDP | each worker has its own queue ([`super::queues`]) | gets nothing new, is seen to have emptied its queue and finished its connections; what waits for one that died is inherited |
//! | a Unix path | one for all | accepts from it until its stop signal, and finishes what it has if it stops gracefully |
//!
//! They are opened before the first worker starts and stay open as long as the app is wanted: connections wait for
//! whoever comes. That also lets an app run on demand: [`idle_tracker`] tells when nobody has been connected for its idle
//! timeout, and when somebody comes.
//!
//! A worker is ready when it says so (`READY=1`), or has passed its health check; else when it accepts. We make a
//! connection of our own to its queue as it starts, and close it when it is accepted: see [`super::accept_probe`].

mod idle_tracker;
mod readiness;
mod state;
mod unix_listener;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

pub use self::state::activation_key;
use self::state::{ActivationState, KnownWorker, Record, Worker, reason};
use self::unix_listener::SharedUnixListener;
use super::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::StateStore;
use crate::protocol::{ListenerInfo, Run};
use crate::spec::QueueRule;
use crate::spec::activation as spec;

/// The sockets of one app. Clones are the same. When the last is dropped, they close.
#[derive(Clone, Debug)]
pub struct Activation {
    state: Rc<RefCell<ActivationState>>,
}

impl Activation {
    /// Nothing is open yet. The queues are those of the app's cluster.
    pub(crate) fn new(queues: Queues, store: StateStore, notices: UnboundedSender<Notice>) -> Activation {
        let state = Rc::new_cyclic(|me| {
            RefCell::new(ActivationState {
                me: me.clone(),
                queues,
                unix_listeners: Vec::new(),
                idle_timeout: None,
                workers: HashMap::new(),
                store,
                notices,
                workers_changed: Rc::new(Notify::new()),
                idle_task: None,
                rule: None,
            })
        });
        Activation { state }
    }

    /// What becomes of connections that no worker is ready for. Those that wait go on waiting.
    pub(crate) fn set_rule(&self, rule: QueueRule) {
        let mut state = self.state.borrow_mut();
        state.rule = Some(rule);
        state.update_shedders();
    }

    /// Takes over what the God before wrote down. What belongs to it is taken out of `files`. Workers that are gone by now
    /// are still to be told of by [`Activation::gone`].
    ///
    /// # Errors
    /// A sentence, if the record makes no sense.
    pub(crate) fn adopt(&self, record: &str, files: &mut HashMap<String, OwnedFd>) -> Result<(), String> {
        let Record { unix_listeners, workers } =
            serde_json::from_str(record).map_err(|error| format!("its record: {error}"))?;
        let mut state = self.state.borrow_mut();
        for known in unix_listeners {
            let listener = SharedUnixListener::adopt(known, &state.store, files);
            state.unix_listeners.extend(listener);
        }
        for KnownWorker { run, excluded } in workers {
            state.workers.insert(run, Worker { excluded, serves: false, accept_probe: None });
        }
        state.save();
        Ok(())
    }

    /// Opens what is to be open and is not, and looks after it. What is named no more closes when nobody holds it.
    ///
    /// # Errors
    /// Names the address, and says why it cannot be had.
    pub fn open(&self, wanted: &spec::Activation) -> io::Result<()> {
        for endpoint in &wanted.listen {
            let opened = self.state.borrow_mut().open(endpoint);
            opened
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {}", endpoint.address, reason(&error))))?;
        }
        idle_tracker::track(&self.state, wanted.idle_timeout);
        Ok(())
    }

    /// The sockets for a worker that is about to start, in the order of their descriptors.
    ///
    /// # Errors
    /// See [`Activation::open`].
    pub fn sockets(&self, run: Run, wanted: &spec::Activation) -> io::Result<Vec<OwnedFd>> {
        self.open(wanted)?;
        let mut state = self.state.borrow_mut();
        // Whose queue is with somebody who may serve is in rotation; its processes are told later.
        state.queues.join(run, 0);
        state.workers.insert(run, Worker::default());
        let sockets = wanted.listen.iter().map(|endpoint| state.socket(run, endpoint)).collect();
        state.update_shedders();
        state.save();
        sockets
    }

    /// The worker was started. Unless it is to say by itself when it is ready, it is found out
    /// ([`Notice::Listening`]).
    pub fn join(&self, run: Run, root: i32, says_ready: bool) {
        self.state.borrow().queues.join(run, root);
        if !says_ready {
            readiness::find_out(&self.state, run);
        }
        self.state.borrow().workers_changed.notify_waiters();
    }

    /// True if the worker is known here.
    #[must_use]
    pub fn knows(&self, run: Run) -> bool {
        self.state.borrow().workers.contains_key(&run)
    }

    /// The worker is ready: connections may go to its queues.
    pub fn ready(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        let Some(worker) = state.workers.get_mut(&run) else { return };
        worker.serves = true;
        worker.accept_probe = None;
        state.queues.serve(run);
        state.update_shedders();
        state.save();
    }

    /// A worker that the God before started, and that was not ready when he died.
    pub fn resume(&self, run: Run) {
        if self.knows(run) {
            readiness::find_out(&self.state, run);
        }
    }

    /// Out of rotation at once.
    pub fn exclude(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        if let Some(worker) = state.workers.get_mut(&run) {
            worker.excluded = true;
            state.update_shedders();
            state.save();
            state.workers_changed.notify_waiters();
        }
        state.queues.exclude(run);
    }

    /// Out of rotation, and let it finish. Ends in one [`Notice::Drained`], after `grace` at the latest, unless
    /// [`Activation::gone`] comes first.
    pub fn drain(&self, run: Run, grace: Duration) {
        self.exclude(run);
        let queues = self.state.borrow().queues.clone();
        queues.drain(run, grace);
    }

    /// The worker has ended. What waits for it is for others.
    pub fn gone(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        if state.workers.remove(&run).is_none() {
            return;
        }
        state.queues.gone(run);
        state.update_shedders();
        state.save();
        state.workers_changed.notify_waiters();
    }

    /// All sockets close, and their files are removed.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.idle_task = None;
        state.queues.close();
        state.unix_listeners.clear();
        state.save();
    }

    /// What the app listens on.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let state = self.state.borrow();
        let workers = u32::try_from(state.workers.values().filter(|worker| !worker.excluded).count());
        let unix_listeners = state.unix_listeners.iter().map(|listener| listener.info(workers.unwrap_or(u32::MAX)));
        state.queues.listeners().into_iter().chain(unix_listeners).collect()
    }
}

#[cfg(test)]
mod tests;
