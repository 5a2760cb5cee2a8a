//! The watched workers of one app, and what is shared by the decisions about their calls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::accepting::Accepting;
use super::journal::Journal;
use crate::cluster::kernel::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::{KeptFd, StateStore};
use crate::os::net::reuseport::Key;
use crate::os::seccomp::BindWatch;
use crate::protocol::Run;
use crate::spec::Sharing;

/// When a program is looked at that listens: what it closed by then it only tried.
const CLOSE_CHECK: Duration = Duration::from_secs(1);
/// Who was given a socket that listens already may not call `listen` any more; then it is taken to listen after this.
pub(crate) const LISTEN_GRACE: Duration = Duration::from_millis(400);
/// Who has bound a socket for datagrams is taken to read them after this. Some go on setting it up, and would drop what
/// came before: dnsmasq answers no question of which it is not told by which interface it came.
pub(crate) const DATAGRAM_SETUP: Duration = Duration::from_millis(250);

/// InterceptState as tasks hold it: they end when the cluster does.
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

/// A program under a watch, as long as anything of it lives.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) root: i32,
    pub(crate) journal: Journal,
    /// Dropped before the watch.
    pub(crate) _kept: KeptFd,
    pub(crate) watch: Rc<AsyncFd<BindWatch>>,
    pub(crate) _reader: AbortOnDropHandle<()>,
    /// Its main process has ended; what is left of it shares nothing any more.
    pub(crate) gone: bool,
    /// What is known of whether it accepts where it listens.
    pub(crate) accepting: Accepting,
}

impl InterceptState {
    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// The worker listens at this address, or reads datagrams there. Whether it accepts connections is found out.
    pub(crate) fn notify_listening(&mut self, run: Run, key: &Key) {
        let (prefix, accepts) = if key.tcp { ("", false) } else { ("udp ", true) };
        self.notify(Notice::Listening { run, address: format!("{prefix}{}", key.address), accepts });
        if key.tcp {
            self.find_out_accepting(run, *key);
        }
        self.run_later(CLOSE_CHECK, move |state| state.release_closed(run, None));
    }

    pub(crate) fn run_later(&self, wait: Duration, then: impl FnOnce(&mut InterceptState) + 'static) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            if let Some(state) = me.upgrade() {
                then(&mut state.borrow_mut());
            }
        });
    }

    /// Lets go of what the program has closed, if that can be told. `asking` is a thread of it.
    pub(crate) fn release_closed(&mut self, run: Run, asking: Option<i32>) {
        if self.workers.get(&run).is_some_and(|worker| !worker.gone) {
            self.queues.release_closed(run, asking);
        }
    }
}
