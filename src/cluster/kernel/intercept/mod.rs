//! Interception of `bind` and `listen`: unmodified programs in any language share their ports among the workers.
//!
//! A worker runs under a seccomp filter ([`crate::os::seccomp`]) that reports its `bind` and `listen` calls to the
//! daemon; the thread sleeps until the daemon answers. The daemon makes the call on a duplicate of the worker's socket,
//! so that the worker shares the port with the others, and answers as the kernel would have. The socket becomes one of
//! [`super::queues`]. A worker is ready when it accepts a connection there ([`accepting`]). No other call of the program
//! is intercepted, and none of its data.
//!
//! ```text
//!  worker: listen() ─► watch ─► journal ─► policy ─► queues ─► journal ─► answer ─► Notice::Listening
//! ```
//!
//! **No worker waits for long when God dies.** The keeper has a copy of the watch from before the worker exists, so
//! calls wait for the next God. Each call is recorded before anything is done about it, and its answer before it is
//! sent; each step can be repeated without harm. See [`recovery`].

mod accepting;
mod calls;
mod journal;
mod policy;
mod port_owner;
mod recovery;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use self::calls::watch_name;
use self::journal::Journal;
use self::state::{Accepting, InterceptState};
use super::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::StateStore;
use crate::keeper::Records;
use crate::os::seccomp::{BindWatch, Pending};
use crate::protocol::Run;
use crate::spec::Sharing;

/// The name under which the daemon's end of the socket pair is kept that a worker's watch arrives on.
#[must_use]
pub fn handover_name(run: Run) -> String {
    format!("handover/{}", run.0)
}

/// Intercepts the calls of one app's workers. Clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct BindInterceptor {
    state: Rc<RefCell<InterceptState>>,
}

impl BindInterceptor {
    pub(crate) fn new(
        store: StateStore,
        queues: Queues,
        rules: Sharing,
        notices: UnboundedSender<Notice>,
    ) -> BindInterceptor {
        let state = Rc::new_cyclic(|me| {
            RefCell::new(InterceptState { me: me.clone(), store, queues, notices, rules, workers: HashMap::new() })
        });
        BindInterceptor { state }
    }

    /// Sets which ports are shared and how. Open sockets stay as they are.
    pub(crate) fn set_rules(&self, rules: Sharing) {
        self.state.borrow_mut().rules = rules;
    }

    /// A worker was started under this watch. All its processes descend from the pid `root`.
    pub(crate) fn watch(&self, run: Run, root: i32, watch: BindWatch) {
        let mut state = self.state.borrow_mut();
        state.queues.join(run, root);
        let journal = Journal::new(&state.store, run, root);
        state.watch(run, root, watch, journal);
    }

    /// The same for a worker whose watch the previous God had not received yet: waits for it, then answers what the
    /// worker has called meanwhile.
    pub(crate) fn expect(&self, run: Run, root: i32, pending: Pending) {
        let me = Rc::downgrade(&self.state);
        self.state.borrow().queues.join(run, root);
        tokio::task::spawn_local(async move {
            let Some(watch) = recovery::await_watch(pending).await else { return };
            if let Some(state) = me.upgrade() {
                let interceptor = BindInterceptor { state };
                interceptor.watch(run, root, watch);
                interceptor.state.borrow_mut().recover(run);
            }
        });
    }

    /// Takes over the workers that the previous God watched, and answers the calls that it had not answered.
    pub(crate) fn adopt(&self, records: &Records, files: &mut HashMap<String, OwnedFd>) {
        let mut state = self.state.borrow_mut();
        let journals: Vec<Journal> = journal::of_app(&state.store, records).collect();
        for journal in journals {
            let (run, root) = (journal.run(), journal.root());
            if let Some(file) = files.remove(&watch_name(run)) {
                state.watch(run, root, BindWatch::from(file), journal);
                state.recover(run);
            }
        }
    }

    /// The worker's main process has ended. The kernel makes later calls of its descendants by itself.
    pub(crate) fn gone(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        if let Some(worker) = state.workers.get_mut(&run) {
            worker.gone = true;
            worker.accepting = Accepting::default();
        }
    }
}
