//! Whether a worker accepts connections where it listens. Many programs listen before they can serve: a master process
//! that listens while its workers load the app, or a script with more to do. Such a worker is not ready yet, and may
//! never be.

use std::collections::BTreeMap;

use tokio_util::task::AbortOnDropHandle;

use super::state::{Accepting, InterceptState};
use crate::cluster::kernel::accept_probe;
use crate::cluster::notice::Notice;
use crate::cluster::own_connections::Unreachable;
use crate::os::net::reuseport::Key;
use crate::protocol::Run;

impl InterceptState {
    /// Detects when the worker accepts at this address, unless that is known, and sends [`Notice::Accepting`] then.
    pub(crate) fn detect_accepting(&mut self, run: Run, key: Key) {
        let weak = self.me.clone();
        let Some(accepting) = self.workers.get_mut(&run).map(|worker| &mut worker.accepting) else { return };
        if accepting.known {
            return self.notify(Notice::Accepting { run });
        }
        let task = tokio::task::spawn_local(async move {
            let queues = || weak.upgrade().map(|state| state.borrow().queues.clone());
            match accept_probe::accepted(queues, run, Some(key)).await {
                // It has closed the socket, or there is no cluster any more.
                None | Some(Err(Unreachable::Nowhere)) => return,
                Some(Ok(_)) => {}
                Some(Err(why)) => tracing::debug!(run = run.0, address = %key.address, %why, "taken to accept"),
            }
            if let Some(state) = weak.upgrade() {
                state.borrow_mut().accepts(run);
            }
        });
        // A probe of the same address before is aborted.
        accepting.probes.insert(key, AbortOnDropHandle::new(task));
    }

    fn accepts(&mut self, run: Run) {
        if let Some(worker) = self.workers.get_mut(&run) {
            worker.accepting = Accepting { known: true, probes: BTreeMap::new() };
            self.notify(Notice::Accepting { run });
        }
    }
}
