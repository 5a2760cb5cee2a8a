//! Socket activation: the sockets an app's owner named are ours, and its workers find them open from descriptor 3 on.
//!
//! | socket | whose | a worker that leaves |
//! |---|---|---|
//! | TCP, UDP | each worker has its own queue ([`super::queues`]) | gets nothing new, is seen to have emptied its queue and finished its connections; what waits for one that died is inherited |
//! | a Unix path | one for all | accepts from it until its stop signal, and finishes what it has if it stops gracefully |
//!
//! They are opened before the first worker starts and stay open as long as the app is wanted: connections wait for
//! whoever comes. That also lets an app run on demand: [`attendance`] tells when nobody has been connected for its idle
//! timeout, and when somebody comes.
//!
//! A worker is ready when it says so (`READY=1`), or has passed its health check; else when it accepts. We make a
//! connection of our own to its queue as it starts, and close it when it is accepted: see [`knock`].

mod accept_probe;
mod idle_tracker;
mod queue_timeout;
mod unix_listener;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use self::unix_listener::{SharedUnixListener, UnixListenerRecord};
use super::super::Notice;
use super::super::persist::store::StateStore;
use super::queues::Queues;
use crate::os::net::diag;
use crate::os::net::reuseport::Key;
use crate::protocol::{ListenerInfo, Run};
use crate::spec::QueueRule;
use crate::spec::activation::{self as spec, Address, Endpoint};

/// Under which key the record of an app's activation is.
#[must_use]
pub fn activation_key(app: u32) -> String {
    format!("activation/{app}")
}

/// The sockets of one app. Clones are the same. When the last is dropped, they close.
#[derive(Clone, Debug)]
pub struct Activation {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    /// Itself, for the tasks it starts.
    me: Weak<RefCell<State>>,
    queues: Queues,
    doors: Vec<SharedUnixListener>,
    idle_timeout: Option<Duration>,
    workers: HashMap<Run, Worker>,
    store: StateStore,
    notices: UnboundedSender<Notice>,
    /// Workers have come or gone.
    news: Rc<Notify>,
    attendant: Option<AbortOnDropHandle<()>>,
    /// What becomes of connections that no worker is ready for, once that is known.
    rule: Option<QueueRule>,
}

#[derive(Debug, Default)]
struct Worker {
    excluded: bool,
    serves: bool,
    knocking: Option<AbortOnDropHandle<()>>,
}

/// What is written down beside the queues.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    doors: Vec<UnixListenerRecord>,
    workers: Vec<KnownWorker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownWorker {
    run: Run,
    #[serde(default)]
    excluded: bool,
}

impl Activation {
    /// Nothing is open yet. The queues are those of the app's cluster.
    pub(crate) fn new(queues: Queues, store: StateStore, notices: UnboundedSender<Notice>) -> Activation {
        let state = Rc::new_cyclic(|me| {
            RefCell::new(State {
                me: me.clone(),
                queues,
                doors: Vec::new(),
                idle_timeout: None,
                workers: HashMap::new(),
                store,
                notices,
                news: Rc::new(Notify::new()),
                attendant: None,
                rule: None,
            })
        });
        Activation { state }
    }

    /// Takes over what the God before wrote down. What belongs to it is taken out of `files`. Workers that are gone by now
    /// are still to be told of by [`Activation::gone`].
    ///
    /// # Errors
    /// A sentence, if the record makes no sense.
    pub(crate) fn adopt(&self, record: &str, files: &mut HashMap<String, OwnedFd>) -> Result<(), String> {
        let Record { doors, workers } = serde_json::from_str(record).map_err(|error| format!("its record: {error}"))?;
        let mut state = self.state.borrow_mut();
        for known in doors {
            let door = SharedUnixListener::adopt(known, &state.store, files);
            state.doors.extend(door);
        }
        for KnownWorker { run, excluded } in workers {
            state.workers.insert(run, Worker { excluded, serves: false, knocking: None });
        }
        state.note();
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
        self.attend(wanted.idle_timeout);
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
        state.look_out();
        state.note();
        sockets
    }

    /// The worker was started. Unless it is to say by itself when it is ready, it is found out
    /// ([`Notice::Listening`]).
    pub fn join(&self, run: Run, root: i32, says_ready: bool) {
        self.state.borrow().queues.join(run, root);
        if !says_ready {
            accept_probe::start(&self.state, run);
        }
        self.state.borrow().news.notify_waiters();
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
        worker.knocking = None;
        state.queues.serve(run);
        state.look_out();
        state.note();
    }

    /// A worker that the God before started, and that was not ready when he died.
    pub fn resume(&self, run: Run) {
        if self.knows(run) {
            accept_probe::start(&self.state, run);
        }
    }

    /// Out of rotation at once.
    pub fn exclude(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        if let Some(worker) = state.workers.get_mut(&run) {
            worker.excluded = true;
            state.look_out();
            state.note();
            state.news.notify_waiters();
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
        state.look_out();
        state.note();
        state.news.notify_waiters();
    }

    /// All sockets close, and their files are removed.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.attendant = None;
        state.queues.close();
        state.doors.clear();
        state.note();
    }

    /// What the app listens on.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let state = self.state.borrow();
        let workers = u32::try_from(state.workers.values().filter(|worker| !worker.excluded).count());
        let doors = state.doors.iter().map(|door| door.info(workers.unwrap_or(u32::MAX)));
        state.queues.listeners().into_iter().chain(doors).collect()
    }
}

impl State {
    fn open(&mut self, endpoint: &Endpoint) -> io::Result<()> {
        match &endpoint.address {
            Address::Tcp(address) => self.open_queue(Key::new(*address, true)?),
            Address::Udp(address) => self.open_queue(Key::new(*address, false)?),
            Address::Unix(path) if self.doors.iter().any(|door| door.path() == path) => Ok(()),
            Address::Unix(path) => {
                let mode = endpoint.mode.unwrap_or(spec::DEFAULT_MODE);
                self.doors.push(SharedUnixListener::open(path, mode, &self.store)?);
                self.look_out();
                self.note();
                Ok(())
            }
        }
    }

    fn open_queue(&mut self, key: Key) -> io::Result<()> {
        if self.queues.has(&key) {
            return Ok(());
        }
        // The kernel lets one user's sockets share a port, those of different apps, too.
        let taken = |listener: &diag::Listener| listener.local == key.address;
        if key.tcp && diag::listeners(key.address.port()).is_ok_and(|all| all.iter().any(taken)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.queues.open_placeholder(&key)?;
        self.note();
        Ok(())
    }

    fn socket(&mut self, run: Run, endpoint: &Endpoint) -> io::Result<OwnedFd> {
        let key = match &endpoint.address {
            Address::Tcp(address) => Key::new(*address, true)?,
            Address::Udp(address) => Key::new(*address, false)?,
            Address::Unix(path) => {
                let door = self.doors.iter().find(|door| door.path() == path).ok_or(io::ErrorKind::NotFound)?;
                return door.socket();
            }
        };
        let socket = self.queues.open(run, &key)?;
        // As systemd hands them over; one that the dead had may be as they left it.
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    }

    /// Writes down what is known now.
    fn note(&self) {
        let workers = self.workers.iter().map(|(run, worker)| KnownWorker { run: *run, excluded: worker.excluded });
        let record =
            Record { doors: self.doors.iter().map(SharedUnixListener::known).collect(), workers: workers.collect() };
        match serde_json::to_string(&record) {
            Ok(json) => self.store.persistence.ledger.put(&activation_key(self.store.app), &json),
            Err(error) => tracing::error!(%error, "the sockets of an app cannot be written down"),
        }
        self.store.commit();
    }

    /// Tells the owner. One that listens no more is about to drop us.
    fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.store.persistence.ledger.remove(&activation_key(self.store.app));
        self.store.commit();
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "somebody else listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
