//! Socket activation: the daemon opens the sockets of the app's `listen` key, and its workers inherit them from
//! descriptor 3 on, by systemd's protocol (sd_listen_fds(3)).
//!
//! | socket | owner | a worker that drains |
//! |---|---|---|
//! | TCP, UDP | each worker has its own queue ([`super::queues`]) | leaves the rotation; drained when its queue is empty and its connections are closed; what waits for one that died is inherited |
//! | Unix path | one socket for all | accepts until its stop signal, and finishes its connections if it stops gracefully |
//!
//! The sockets are opened before the first worker starts and stay open until the app is deleted, so connections wait
//! for the next worker. That also lets an app run on demand: [`idle_tracker`] reports when no client has been connected
//! for the idle timeout, and when one arrives.
//!
//! A worker is ready when it reports so (`READY=1`) or has passed its health check; without either, when it accepts a
//! connection that the daemon makes to its queue ([`super::accept_probe`]).

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

/// The activation sockets of one app. Clones share them. When the last clone is dropped, they close.
#[derive(Clone, Debug)]
pub struct Activation {
    state: Rc<RefCell<ActivationState>>,
}

impl Activation {
    /// Without sockets. `queues` are those of the app's cluster.
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

    /// Sets how long connections may wait while no worker is ready, and how they are rejected. The time that they have
    /// waited already counts.
    pub(crate) fn set_rule(&self, rule: QueueRule) {
        let mut state = self.state.borrow_mut();
        state.rule = Some(rule);
        state.update_shedders();
    }

    /// Takes over the sockets and workers of the previous God's record. Takes their descriptors out of `files`. The
    /// caller must report workers that have ended meanwhile by [`Activation::gone`].
    ///
    /// # Errors
    /// A sentence, if the record cannot be read.
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

    /// Opens the wanted sockets that are not open yet, and tracks the app's use by the idle timeout. Sockets that are
    /// no longer wanted stay open while a worker holds them.
    ///
    /// # Errors
    /// Names the address and the reason.
    pub fn open(&self, wanted: &spec::Activation) -> io::Result<()> {
        for endpoint in &wanted.listen {
            let opened = self.state.borrow_mut().open(endpoint);
            opened
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {}", endpoint.address, reason(&error))))?;
        }
        idle_tracker::track(&self.state, wanted.idle_timeout);
        Ok(())
    }

    /// The sockets for a worker that is about to start, in the order of their descriptors from 3 on.
    ///
    /// # Errors
    /// See [`Activation::open`].
    pub fn sockets(&self, run: Run, wanted: &spec::Activation) -> io::Result<Vec<OwnedFd>> {
        self.open(wanted)?;
        let mut state = self.state.borrow_mut();
        // The worker must be known before it gets queues, or they count as excluded. Its pid comes with `join`.
        state.queues.join(run, 0);
        state.workers.insert(run, Worker::default());
        let sockets = wanted.listen.iter().map(|endpoint| state.socket(run, endpoint)).collect();
        state.update_shedders();
        state.save();
        sockets
    }

    /// The worker was started with the pid `root`. Unless it reports by itself when it is ready, its first accept is
    /// detected and reported as [`Notice::Listening`].
    pub fn join(&self, run: Run, root: i32, says_ready: bool) {
        self.state.borrow().queues.join(run, root);
        if !says_ready {
            readiness::detect(&self.state, run);
        }
        self.state.borrow().workers_changed.notify_waiters();
    }

    /// True if the worker was started with activation sockets.
    #[must_use]
    pub fn knows(&self, run: Run) -> bool {
        self.state.borrow().workers.contains_key(&run)
    }

    /// The worker is ready: its queues enter the rotation.
    pub fn ready(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        let Some(worker) = state.workers.get_mut(&run) else { return };
        worker.serves = true;
        worker.accept_probe = None;
        state.queues.serve(run);
        state.update_shedders();
        state.save();
    }

    /// Detects the first accept of a worker that was starting when the previous God died.
    pub fn resume(&self, run: Run) {
        if self.knows(run) {
            readiness::detect(&self.state, run);
        }
    }

    /// Takes the worker out of rotation, for good.
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

    /// Takes the worker out of rotation and waits until it has finished its connections. Ends in one
    /// [`Notice::Drained`], after `grace` at the latest, unless [`Activation::gone`] comes first.
    pub fn drain(&self, run: Run, grace: Duration) {
        self.exclude(run);
        let queues = self.state.borrow().queues.clone();
        queues.drain(run, grace);
    }

    /// The worker has ended. What waits in its queues goes to other workers or to its successor.
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

    /// Closes all sockets and removes the files of Unix paths.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.idle_task = None;
        state.queues.close();
        state.unix_listeners.clear();
        state.save();
    }

    /// The addresses of the app's queues and Unix paths, with their mechanism and numbers.
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
