//! BindInterceptor of binds: workers of any program share their ports, and know nothing of it.
//!
//! A worker runs under a filter ([`crate::os::seccomp`]) by which its `bind` and `listen` calls are told to us and wait
//! for our answer. We do what it asked for on a duplicate of its socket, so that it shares the port with the other
//! workers, and answer as the kernel would have; the socket becomes one of [`super::queues`]. When it accepts there,
//! which is found out, it is ready. No other call of the program is touched, and none of its data.
//!
//! ```text
//!  worker: listen() ─► watch ─► written down ─► policy ─► queues ─► written down ─► answer ─► Notice::Listening
//! ```
//!
//! **Nobody waits for long, whoever dies.** The watch is kept where it outlives us, from before the worker exists. What
//! it told us is written down before anything is done about it, and the decision before it is answered; each step can
//! be done twice. See [`recovery`].

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

use self::accepting::Accepting;
use self::calls::watch_name;
use self::journal::Journal;
use self::state::InterceptState;
use super::queues::Queues;
use crate::cluster::notice::Notice;
use crate::cluster::persist::StateStore;
use crate::keeper::Records;
use crate::os::seccomp::{BindWatch, Pending};
use crate::protocol::Run;
use crate::spec::Sharing;

/// Under which name our end is kept by which a worker's watch is handed over.
#[must_use]
pub fn handover_name(run: Run) -> String {
    format!("handover/{}", run.0)
}

/// The watched workers of one app. Clones are the same.
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

    /// From now on this is shared; what is open stays as it is.
    pub(crate) fn set_rules(&self, rules: Sharing) {
        self.state.borrow_mut().rules = rules;
    }

    /// A worker was started under this watch; its processes descend from `root`.
    pub(crate) fn watch(&self, run: Run, root: i32, watch: BindWatch) {
        let mut state = self.state.borrow_mut();
        state.queues.join(run, root);
        let journal = Journal::new(&state.store, run, root);
        state.watch(run, root, watch, journal);
    }

    /// The same for one whose watch is still on its way to us.
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

    /// Those the God before watched, with what he had not answered.
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

    /// The worker's main process has ended.
    pub(crate) fn gone(&self, run: Run) {
        let mut state = self.state.borrow_mut();
        if let Some(worker) = state.workers.get_mut(&run) {
            worker.gone = true;
            worker.accepting = Accepting::default();
        }
    }
}
