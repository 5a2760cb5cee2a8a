//! The state of interception: the watched workers of one app, and what decisions about their calls depend on.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::journal::Journal;
use crate::cluster::kernel::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::{KeptFd, StateStore};
use crate::os::net::reuseport::Key;
use crate::os::seccomp::BindWatch;
use crate::protocol::Run;
use crate::spec::Sharing;

/// How long after a worker begins to listen the daemon checks which sockets it has closed: it only tested those ports.
const CLOSE_CHECK: Duration = Duration::from_secs(1);
/// A worker that got a socket which listens already may not call `listen`. It counts as listening after this time.
pub(crate) const LISTEN_GRACE: Duration = Duration::from_millis(400);
/// A worker counts as reading datagrams this long after it has bound the socket. Some programs go on setting up the
/// socket and drop what came before: dnsmasq answers no query that came before it had set `IP_PKTINFO`, which names the
/// interface.
pub(crate) const DATAGRAM_SETUP: Duration = Duration::from_millis(250);

/// The state as its tasks hold it. They end when the cluster is dropped.
pub(crate) type WeakInterceptState = Weak<RefCell<InterceptState>>;

#[derive(Debug)]
pub(crate) struct InterceptState {
    pub(crate) me: WeakInterceptState,
    pub(crate) store: StateStore,
    pub(crate) queues: Queues,
    pub(crate) notices: UnboundedSender<Notice>,
    pub(crate) rules: Sharing,
    pub(crate) workers: HashMap<Run, Worker>,
}

/// A worker under a watch. It is removed when its last process has ended.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The pid of its main process.
    pub(crate) root: i32,
    pub(crate) journal: Journal,
    /// The watch's entry in the ledger. Dropped before the watch, so that the ledger never names a closed descriptor.
    pub(crate) _kept: KeptFd,
    pub(crate) watch: Rc<AsyncFd<BindWatch>>,
    pub(crate) _reader: AbortOnDropHandle<()>,
    /// Its main process has ended. Its other processes share no port any more.
    pub(crate) gone: bool,
    /// What is known of whether it accepts where it listens.
    pub(crate) accepting: Accepting,
}

/// Whether a worker accepts connections, as far as it is known. One address at which it accepts is enough: some programs open a port that no client uses.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    /// True once it has accepted a connection, or cannot be reached alone.
    pub(crate) known: bool,
    /// The task for each address that detects it.
    pub(crate) probes: BTreeMap<Key, AbortOnDropHandle<()>>,
}

impl InterceptState {
    /// Sends a notice to the owner. If the owner has dropped the receiver, it is about to drop the cluster, too.
    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Reports that the worker listens, or reads datagrams, at this address. Then detects whether it accepts connections
    /// there, and checks after [`CLOSE_CHECK`] what it has closed.
    pub(crate) fn notify_listening(&mut self, run: Run, key: &Key) {
        let (prefix, accepts) = if key.tcp { ("", false) } else { ("udp ", true) };
        self.notify(Notice::Listening { run, address: format!("{prefix}{}", key.address), accepts });
        if key.tcp {
            self.detect_accepting(run, *key);
        }
        self.run_later(CLOSE_CHECK, move |state| state.release_closed(run, None));
    }

    /// Calls `then` after this time, unless the cluster is dropped before.
    pub(crate) fn run_later(&self, wait: Duration, then: impl FnOnce(&mut InterceptState) + 'static) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            if let Some(state) = me.upgrade() {
                then(&mut state.borrow_mut());
            }
        });
    }

    /// See [`Queues::release_closed`].
    pub(crate) fn release_closed(&mut self, run: Run, asking: Option<i32>) {
        if self.workers.get(&run).is_some_and(|worker| !worker.gone) {
            self.queues.release_closed(run, asking);
        }
    }
}
