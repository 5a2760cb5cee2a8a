//! When a worker with given sockets is ready, unless it reports that by itself: when it accepts. Where that cannot be found
//! out, as for Unix paths and UDP, a worker counts as ready when it has lived for `listen_timeout`.

use std::cell::RefCell;
use std::rc::Rc;

use tokio_util::task::AbortOnDropHandle;

use super::state::ActivationState;
use crate::cluster::kernel::accept_probe;
use crate::cluster::notice::Notice;
use crate::protocol::Run;

/// Sends [`Notice::Listening`] when the worker has accepted at one of its addresses.
pub(crate) fn detect(state: &Rc<RefCell<ActivationState>>, run: Run) {
    let weak = Rc::downgrade(state);
    let task = tokio::task::spawn_local(async move {
        let queues = || weak.upgrade().map(|state| state.borrow().queues.clone());
        if let Some(Ok(at)) = accept_probe::accepted(queues, run, None).await
            && let Some(state) = weak.upgrade()
        {
            state.borrow().notify(Notice::Listening { run, address: at.to_string(), accepts: true });
        }
    });
    if let Some(worker) = state.borrow_mut().workers.get_mut(&run) {
        worker.accept_probe = Some(AbortOnDropHandle::new(task));
    }
}
