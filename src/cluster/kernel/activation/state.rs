//! What is known of the sockets that an app is given, and of the workers that have them.
//!
//! All workers accept from the one socket of a Unix path, those that are not ready yet, too. So while no worker serves, it
//! is watched how many connections wait there, and only what no worker has taken for the whole timeout is rejected. What
//! waits at other addresses is rejected by [`crate::cluster::kernel::queues`].

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

/// Under which key the record of an app's activation is.
#[must_use]
pub fn activation_key(app: u32) -> String {
    format!("activation/{app}")
}

#[derive(Debug)]
pub(crate) struct ActivationState {
    /// Itself, for the tasks it starts.
    pub(crate) me: Weak<RefCell<ActivationState>>,
    pub(crate) queues: Queues,
    pub(crate) unix_listeners: Vec<SharedUnixListener>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) workers: HashMap<Run, Worker>,
    pub(crate) store: StateStore,
    pub(crate) notices: UnboundedSender<Notice>,
    /// Workers have come or gone.
    pub(crate) workers_changed: Rc<Notify>,
    pub(crate) idle_task: Option<AbortOnDropHandle<()>>,
    /// What becomes of connections that no worker is ready for, once that is known.
    pub(crate) rule: Option<QueueRule>,
}

#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) excluded: bool,
    pub(crate) serves: bool,
    pub(crate) accept_probe: Option<AbortOnDropHandle<()>>,
}

/// What is written down beside the queues.
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
        // The kernel lets one user's sockets share a port, those of different apps, too.
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
        // As systemd hands them over; one that the dead had may be as they left it.
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    }

    /// Writes down what is known now.
    pub(crate) fn save(&self) {
        let workers = self.workers.iter().map(|(run, worker)| KnownWorker { run: *run, excluded: worker.excluded });
        let record = Record {
            unix_listeners: self.unix_listeners.iter().map(SharedUnixListener::known).collect(),
            workers: workers.collect(),
        };
        match serde_json::to_string(&record) {
            Ok(json) => self.store.persistence.ledger.put(&activation_key(self.store.app), &json),
            Err(error) => tracing::error!(%error, "the sockets of an app cannot be written down"),
        }
        self.store.commit();
    }

    /// Tells the owner. One that listens no more is about to drop us.
    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Looks after the doors if nobody serves. To be called after each change. Until the rule is known, what another God
    /// knew stays.
    pub(crate) fn update_shedders(&mut self) {
        let Some(rule) = self.rule else { return };
        let served = self.workers.values().any(|worker| worker.serves && !worker.excluded);
        for listener in &mut self.unix_listeners {
            if served || rule.timeout.is_none() {
                listener.shedder.stop();
                continue;
            }
            let (me, path) = (self.me.clone(), listener.path().to_owned());
            listener.watch(rule, move |arrivals| keep(&me, &path, arrivals));
        }
    }
}

impl Drop for ActivationState {
    fn drop(&mut self) {
        self.store.persistence.ledger.remove(&activation_key(self.store.app));
        self.store.commit();
    }
}

pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "somebody else listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Writes down since when connections wait there.
fn keep(state: &Weak<RefCell<ActivationState>>, path: &Path, arrivals: Arrivals) {
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    if let Some(listener) = state.unix_listeners.iter_mut().find(|listener| listener.path() == path) {
        listener.shedder.set_arrivals(arrivals);
        state.save();
    }
}
