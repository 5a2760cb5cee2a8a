//! BindInterceptor of binds: workers of any program share their ports, and know nothing of it.
//!
//! A worker runs under a filter ([`crate::os::seccomp`]) by which its `bind` and `listen` calls are told to us and wait
//! for our answer. We do what it asked for on a duplicate of its socket, so that it shares the port with the other
//! workers, and answer as the kernel would have; the socket becomes one of [`super::queues`]. That it listens is also
//! what makes it ready. No other call of the program is touched, and none of its data.
//!
//! ```text
//!  worker: listen() ─► watch ─► written down ─► policy ─► queues ─► written down ─► answer ─► Notice::Listening
//! ```
//!
//! **Nobody waits for long, whoever dies.** The watch is kept where it outlives us, from before the worker exists. What
//! it told us is written down before anything is done about it, and the decision before it is answered; each step can
//! be done twice. See [`recovery`].

mod journal;
mod policy;
mod port_owner;
mod recovery;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use self::journal::Journal;
use super::super::Notice;
use super::super::persist::store::{KeptFd, StateStore};
use super::queues::Queues;
use crate::keeper::Records;
use crate::os::killpoint;
use crate::os::net::reuseport::Key;
use crate::os::seccomp::{BindWatch, Pending, Request};
use crate::protocol::Run;
use crate::spec::Sharing;

/// When a program is looked at that listens: what it closed by then it only tried.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Who was given a socket that listens already may not call `listen` any more; then it is taken to listen after this.
const UNSAID: Duration = Duration::from_millis(400);
/// Who has bound a socket for datagrams is taken to read them after this. Some go on setting it up, and would drop what
/// came before: dnsmasq answers no question of which it is not told by which interface it came.
const SET_UP: Duration = Duration::from_millis(250);

/// Under which name our end is kept by which a worker's watch is handed over.
#[must_use]
pub fn handover_name(run: Run) -> String {
    format!("handover/{}", run.0)
}

/// Under which name the watch of a worker is kept.
fn watch_name(run: Run) -> String {
    format!("watch/{}", run.0)
}

/// The watched workers of one app. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct BindInterceptor {
    state: Rc<RefCell<State>>,
}

/// State as tasks hold it: they end when the cluster does.
type Shared = Weak<RefCell<State>>;

#[derive(Debug)]
struct State {
    me: Shared,
    store: StateStore,
    queues: Queues,
    notices: UnboundedSender<Notice>,
    rules: Sharing,
    workers: HashMap<Run, Worker>,
}

/// A program under a watch, as long as anything of it lives.
#[derive(Debug)]
struct Worker {
    root: i32,
    journal: Journal,
    /// Dropped before the watch.
    _kept: KeptFd,
    watch: Rc<AsyncFd<BindWatch>>,
    _reader: AbortOnDropHandle<()>,
    /// Its main process has ended; what is left of it shares nothing any more.
    gone: bool,
}

impl BindInterceptor {
    pub(crate) fn new(
        store: StateStore,
        queues: Queues,
        rules: Sharing,
        notices: UnboundedSender<Notice>,
    ) -> BindInterceptor {
        let state = Rc::new_cyclic(|me| {
            RefCell::new(State { me: me.clone(), store, queues, notices, rules, workers: HashMap::new() })
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
                let takeover = BindInterceptor { state };
                takeover.watch(run, root, watch);
                takeover.state.borrow_mut().recover(run);
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
        }
    }
}

impl State {
    fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn watch(&mut self, run: Run, root: i32, watch: BindWatch, journal: Journal) {
        let kept = self.store.keep(watch_name(run), &watch);
        let watch = match watch.seen_by(&self.store.persistence.tracer).watch() {
            Ok(watch) => Rc::new(watch),
            Err(error) => return tracing::error!(run = run.0, %error, "the binds of a worker cannot be watched"),
        };
        let reader = tokio::task::spawn_local(read(self.me.clone(), run, Rc::clone(&watch)));
        let reader = AbortOnDropHandle::new(reader);
        self.workers.insert(run, Worker { root, journal, _kept: kept, watch, _reader: reader, gone: false });
    }

    /// A call came: it is written down, decided, written down, and answered.
    fn asked(&mut self, run: Run, request: &Request) {
        killpoint::pass("bind-received");
        let Some(worker) = self.workers.get_mut(&run) else { return };
        worker.journal.received(request);
        killpoint::pass("bind-noted");
        let Some(decision) = self.decide(run, request) else { return };
        killpoint::pass("bind-done");
        let Some(worker) = self.workers.get_mut(&run) else { return };
        worker.journal.decided(decision.answer);
        killpoint::pass("bind-decided");
        if let Err(error) = worker.watch.get_ref().answer(request.id, decision.answer) {
            tracing::error!(run = run.0, %error, "a worker's call cannot be answered");
        }
        killpoint::pass("bind-answered");
        if let Some(key) = decision.listening {
            self.listens(run, &key);
        }
    }

    fn listens(&self, run: Run, key: &Key) {
        let prefix = if key.tcp { "" } else { "udp " };
        self.tell(Notice::Listening { run, address: format!("{prefix}{}", key.address) });
        self.later(SECOND_LOOK, move |state| state.forget_closed(run, None));
    }

    fn later(&self, wait: Duration, then: impl FnOnce(&mut State) + 'static) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            if let Some(state) = me.upgrade() {
                then(&mut state.borrow_mut());
            }
        });
    }

    /// Lets go of what the program has closed, if that can be told. `asking` is a thread of it.
    fn forget_closed(&mut self, run: Run, asking: Option<i32>) {
        if self.workers.get(&run).is_some_and(|worker| !worker.gone) {
            self.queues.forget_closed(run, asking);
        }
    }
}

/// Reads a watch until nobody is left under it.
async fn read(shared: Shared, run: Run, watch: Rc<AsyncFd<BindWatch>>) {
    loop {
        let Ok(mut ready) = watch.readable().await else { break };
        let Some(state) = shared.upgrade() else { return };
        match ready.try_io(|watch| watch.get_ref().next()) {
            Ok(Ok(Some(request))) => state.borrow_mut().asked(run, &request),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                tracing::error!(run = run.0, %error, "a worker's calls cannot be read");
                break;
            }
            Err(_would_block) => {}
        }
        drop(state);
        // A program that never pauses shall not keep us from others.
        tokio::task::coop::consume_budget().await;
    }
    if let Some(state) = shared.upgrade() {
        let worker = state.borrow_mut().workers.remove(&run);
        worker.into_iter().for_each(|worker| worker.journal.forget());
    }
}
