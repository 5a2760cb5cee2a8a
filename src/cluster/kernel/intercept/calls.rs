//! Handles the intercepted calls of workers. Each is recorded, decided, recorded with its answer, and answered, in this
//! order, so that the next God can go on after any of these steps. The kill points between them are for tests.

use std::rc::Rc;

use tokio::io::unix::AsyncFd;
use tokio_util::task::AbortOnDropHandle;

use super::journal::Journal;
use super::state::{Accepting, InterceptState, WeakInterceptState, Worker};
use crate::os::killpoint;
use crate::os::seccomp::{BindWatch, Request};
use crate::protocol::Run;

/// The name under which a worker's watch is kept.
pub(crate) fn watch_name(run: Run) -> String {
    format!("watch/{}", run.0)
}

impl InterceptState {
    /// Keeps the watch and starts a task that handles its calls.
    pub(crate) fn watch(&mut self, run: Run, root: i32, watch: BindWatch, journal: Journal) {
        let kept = self.store.keep(watch_name(run), &watch);
        let watch = match watch.seen_by(&self.store.persistence.tracer).watch() {
            Ok(watch) => Rc::new(watch),
            Err(error) => return tracing::error!(run = run.0, %error, "the binds of a worker cannot be watched"),
        };
        let reader = tokio::task::spawn_local(read(self.me.clone(), run, Rc::clone(&watch)));
        let reader = AbortOnDropHandle::new(reader);
        self.workers.insert(
            run,
            Worker { root, journal, _kept: kept, watch, _reader: reader, gone: false, accepting: Accepting::default() },
        );
    }

    /// Handles one call of a worker. No other call of the worker is received before it is answered.
    pub(crate) fn handle_call(&mut self, run: Run, request: &Request) {
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
            self.notify_listening(run, &key);
        }
    }
}

/// Handles the calls of one watch until no process is left under it, then removes the worker and its journal.
async fn read(shared: WeakInterceptState, run: Run, watch: Rc<AsyncFd<BindWatch>>) {
    loop {
        let Ok(mut ready) = watch.readable().await else { break };
        let Some(state) = shared.upgrade() else { return };
        match ready.try_io(|watch| watch.get_ref().next()) {
            Ok(Ok(Some(request))) => state.borrow_mut().handle_call(run, &request),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                tracing::error!(run = run.0, %error, "a worker's calls cannot be read");
                break;
            }
            Err(_would_block) => {}
        }
        drop(state);
        // A program that calls without a pause must not starve the others.
        tokio::task::coop::consume_budget().await;
    }
    if let Some(state) = shared.upgrade() {
        let worker = state.borrow_mut().workers.remove(&run);
        worker.into_iter().for_each(|worker| worker.journal.forget());
    }
}
