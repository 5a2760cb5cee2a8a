//! Calls that the previous God had received and not answered. The kernel does not deliver them again, and their threads
//! react to no signal but SIGKILL until the daemon answers them.
//!
//! A recorded call is decided again, or gets its recorded answer. A call that was received but not recorded is found by
//! two facts: the kernel numbers calls consecutively, and `/proc` shows which threads sleep in which call. If that is
//! ambiguous, or there was no record at all, the worker is killed, and restarted like any that dies.

use std::time::Duration;

use super::state::InterceptState;
use crate::os::process::tree;
use crate::os::seccomp::recovery::join;
use crate::os::seccomp::{BindWatch, Call, Pending, Request, RequestId};
use crate::protocol::Run;

/// Time between two polls for a watch that a child is about to send. The child needs microseconds for it.
const PAUSE: Duration = Duration::from_millis(5);
/// Polls until the watch counts as lost: two seconds.
const POLLS: u32 = 400;
/// Time between two polls for a thread whose call was received: the kernel reports the call some microseconds before
/// the thread sleeps, and `/proc` does not show the call before that. God's thread is blocked meanwhile.
const SLEEP_PAUSE: Duration = Duration::from_millis(2);
/// Polls until such a thread counts as not found: a tenth of a second.
const SLEEP_POLLS: u32 = 50;

/// The watch of a worker that was starting when the previous God died. `None` if the child ended before it sent one.
pub(crate) async fn await_watch(pending: Pending) -> Option<BindWatch> {
    for _ in 0..POLLS {
        match pending.take() {
            Ok(watch) => return Some(watch),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
            Err(_) => return None,
        }
    }
    tracing::error!("a worker's watch did not arrive");
    None
}

impl InterceptState {
    /// Answers the calls of this worker that the previous God left unanswered, in the order in which they were made,
    /// and those that were made since.
    pub(crate) fn recover(&mut self, run: Run) {
        let Some(worker) = self.workers.get(&run) else { return };
        let watch = std::rc::Rc::clone(&worker.watch);
        let (watch, root) = (watch.get_ref(), worker.root);
        let last = worker.journal.last();
        let unanswered = last.clone().filter(|(request, _)| watch.is_waiting(request.id).unwrap_or(false));
        let lost = worker.journal.last_id().map(|last| watch.unanswered_after(last));
        let mut received = Vec::new();
        let known = unanswered.as_ref().map(|(request, _)| request);
        let is_waited_for = |id: &RequestId| watch.is_waiting(*id).unwrap_or(false);
        let mut waiting = unreceived_calls(root, known, watch, &mut received);
        for _ in 0..SLEEP_POLLS {
            if !waiting.is_empty() || !lost.iter().flatten().any(is_waited_for) {
                break;
            }
            std::thread::sleep(SLEEP_PAUSE);
            waiting = unreceived_calls(root, known, watch, &mut received);
        }
        match unanswered {
            Some((request, Some(answer))) => drop(watch.answer(request.id, answer)),
            Some((request, None)) => self.handle_call(run, &request),
            None => {}
        }
        // A thread that was killed meanwhile does not wait any more.
        let lost = lost.map(|ids| ids.into_iter().filter(is_waited_for).collect());
        match identify_lost_call(root, lost, waiting) {
            Ok(request) => request.into_iter().for_each(|request| self.handle_call(run, &request)),
            Err(thread) => self.kill_worker(run, root, thread),
        }
        received.into_iter().for_each(|request| self.handle_call(run, &request));
        self.repeat_notices(run);
    }

    fn kill_worker(&self, run: Run, root: i32, thread: i32) {
        tracing::error!(run = run.0, thread, "a worker waits in a call that cannot be answered any more: it is killed");
        for pid in tree::descendants(&[root]) {
            // It may have ended by itself.
            let _ = tree::signal(pid, libc::SIGKILL);
        }
    }

    /// Sends the notices again that the previous God may not have sent.
    fn repeat_notices(&mut self, run: Run) {
        for key in self.queues.listening_keys(run) {
            self.notify_listening(run, &key);
        }
        for key in self.queues.unread_datagram_keys(run) {
            self.expect_reading(run, key);
        }
    }
}

/// The threads that wait in a call which was neither recorded (`known`) nor can be received now. Receives every pending
/// call of the watch into `received`.
fn unreceived_calls(
    root: i32,
    known: Option<&Request>,
    watch: &BindWatch,
    received: &mut Vec<Request>,
) -> Vec<(i32, Call)> {
    let mut calls = watch.waiting_calls(&tree::descendants(&[root]));
    // A thread that waits has its call reported already, so a call seen above is received here, unless it is lost.
    while let Ok(Some(request)) = watch.next() {
        received.push(request);
    }
    // The filter does not report binds to other addresses. Such a thread sleeps in the kernel, at a file for example.
    let is_filtered = |call: &Call| match call {
        Call::Bind { address, .. } => address.ip().is_some(),
        Call::BindUnreadable { .. } | Call::Listen { .. } => true,
    };
    let is_known = |thread: i32| received.iter().chain(known).any(|request| request.thread == thread);
    calls.retain(|(thread, call)| is_filtered(call) && !is_known(*thread));
    calls
}

/// The call that was received but not recorded, if there is one. `lost` are the numbers of unanswered calls, `None` if
/// the worker has no recorded call to count from.
///
/// # Errors
/// A thread that waits in a call whose number is ambiguous, or `root` if `/proc` does not show the thread.
fn identify_lost_call(
    root: i32,
    lost: Option<Vec<RequestId>>,
    waiting: Vec<(i32, Call)>,
) -> Result<Option<Request>, i32> {
    let Some((thread, _)) = waiting.first().cloned() else {
        return if lost.is_none_or(|lost| lost.is_empty()) { Ok(None) } else { Err(root) };
    };
    match lost.and_then(|lost| join(lost, waiting)) {
        Some(request) => Ok(Some(request)),
        None => Err(thread),
    }
}
