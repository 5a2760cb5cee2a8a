//! The state of an app's activation sockets, and of the workers that have them.
//!
//! All workers accept from the one socket of a Unix path, those that are not ready yet, too. So while no worker serves,
//! it is watched how many connections wait there, and only what no worker has taken for the whole timeout is rejected.
//! What waits at other addresses is rejected by [`crate::cluster::kernel::queues`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::unix_listener::{SharedUnixListener, UnixListenerRecord};
use crate::cluster::kernel::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::StateStore;
use crate::cluster::waiting::Arrivals;
use crate::os::net::diag;
use crate::os::net::reuseport::Key;
use crate::protocol::Run;
use crate::spec::QueueRule;
use crate::spec::activation::{self as spec, Address, Endpoint};

/// The key of the record of an app's activation in the ledger.
#[must_use]
pub fn activation_key(app: u32) -> String {
    format!("activation/{app}")
}

#[derive(Debug)]
pub(crate) struct ActivationState {
    /// The state itself, for the tasks it starts.
    pub(crate) me: Weak<RefCell<ActivationState>>,
    pub(crate) queues: Queues,
    pub(crate) unix_listeners: Vec<SharedUnixListener>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) workers: HashMap<Run, Worker>,
    pub(crate) store: StateStore,
    pub(crate) notices: UnboundedSender<Notice>,
    /// Signalled when a worker starts, is excluded or ends.
    pub(crate) workers_changed: Rc<Notify>,
    pub(crate) idle_task: Option<AbortOnDropHandle<()>>,
    /// Timeout and rejection of connections that wait; `None` in a new God that has not set it yet.
    pub(crate) rule: Option<QueueRule>,
}

#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// Out of rotation for good: it drains, stops or has ended.
    pub(crate) excluded: bool,
    /// It is ready.
    pub(crate) serves: bool,
    pub(crate) accept_probe: Option<AbortOnDropHandle<()>>,
}

/// The record in the ledger. Queues have their own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    #[serde(rename = "doors")]
    pub(crate) unix_listeners: Vec<UnixListenerRecord>,
    pub(crate) workers: Vec<KnownWorker>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnownWorker {
    pub(crate) run: Run,
    #[serde(default)]
    pub(crate) excluded: bool,
}

impl ActivationState {
    pub(crate) fn open(&mut self, endpoint: &Endpoint) -> io::Result<()> {
        match &endpoint.address {
            Address::Tcp(address) => self.open_queue(Key::new(*address, true)?),
            Address::Udp(address) => self.open_queue(Key::new(*address, false)?),
            Address::Unix(path) if self.unix_listeners.iter().any(|listener| listener.path() == path) => Ok(()),
            Address::Unix(path) => {
                let mode = endpoint.mode.unwrap_or(spec::DEFAULT_MODE);
                self.unix_listeners.push(SharedUnixListener::open(path, mode, &self.store)?);
                self.update_shedders();
                self.save();
                Ok(())
            }
        }
    }

    pub(crate) fn open_queue(&mut self, key: Key) -> io::Result<()> {
        if self.queues.has(&key) {
            return Ok(());
        }
        // `SO_REUSEPORT` would let sockets of different apps of one user share the port.
        let taken = |listener: &diag::Listener| listener.local == key.address;
        if key.tcp && diag::listeners(key.address.port()).is_ok_and(|all| all.iter().any(taken)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.queues.open_placeholder(&key)?;
        self.save();
        Ok(())
    }

    pub(crate) fn socket(&mut self, run: Run, endpoint: &Endpoint) -> io::Result<OwnedFd> {
        let key = match &endpoint.address {
            Address::Tcp(address) => Key::new(*address, true)?,
            Address::Udp(address) => Key::new(*address, false)?,
            Address::Unix(path) => {
                let listener = self
                    .unix_listeners
                    .iter()
                    .find(|listener| listener.path() == path)
                    .ok_or(io::ErrorKind::NotFound)?;
                return listener.socket();
            }
        };
        let socket = self.queues.open(run, &key)?;
        // Blocking, as systemd passes them. An inherited one may be in the mode that its last worker set.
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    }

    /// Writes the current state to the ledger.
    pub(crate) fn save(&self) {
        let workers = self.workers.iter().map(|(run, worker)| KnownWorker { run: *run, excluded: worker.excluded });
        let record = Record {
            unix_listeners: self.unix_listeners.iter().map(SharedUnixListener::record).collect(),
            workers: workers.collect(),
        };
        match serde_json::to_string(&record) {
            Ok(json) => self.store.persistence.ledger.put(&activation_key(self.store.app), &json),
            Err(error) => tracing::error!(%error, "the sockets of an app cannot be recorded"),
        }
        self.store.commit();
    }

    /// Sends a notice to the owner. If the owner has dropped the receiver, it is about to drop the sockets, too.
    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Starts the shedders of all Unix paths if no worker serves, or stops them. To be called after each change. Before
    /// the rule is set it does nothing, so that arrival times from the previous God are kept.
    pub(crate) fn update_shedders(&mut self) {
        let Some(rule) = self.rule else { return };
        let served = self.workers.values().any(|worker| worker.serves && !worker.excluded);
        for listener in &mut self.unix_listeners {
            if served || rule.timeout.is_none() {
                listener.shedder.stop();
                continue;
            }
            let (me, path) = (self.me.clone(), listener.path().to_owned());
            listener.watch(rule, move |arrivals| save_arrivals(&me, &path, arrivals));
        }
    }
}

impl Drop for ActivationState {
    fn drop(&mut self) {
        self.store.persistence.ledger.remove(&activation_key(self.store.app));
        self.store.commit();
    }
}

/// Why an address cannot be opened, for people.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Records since when connections wait at a path, so that their time goes on after the death of God.
fn save_arrivals(state: &Weak<RefCell<ActivationState>>, path: &Path, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(listener) = state.unix_listeners.iter_mut().find(|listener| listener.path() == path) {
        listener.shedder.set_arrivals(arrivals);
        state.save();
    }
}
