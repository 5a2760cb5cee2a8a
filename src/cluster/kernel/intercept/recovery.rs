//! OwnConnections that the God before had received and not answered: nobody else will, and their threads hear no signal but the
//! fatal one.
//!
//! What he had written down is decided again, or answered as he had decided. For what he had received and not even
//! written down there are the numbers of calls, which follow each other, and the kernel's word on who waits in which
//! call. Where that leaves a doubt, or nothing was ever written down, the worker is killed, and started again like any
//! that dies.

use std::time::Duration;

use super::state::InterceptState;
use crate::os::process::tree;
use crate::os::seccomp::recovery::join;
use crate::os::seccomp::{BindWatch, Call, Pending, Request, RequestId};
use crate::protocol::Run;

/// How often is looked for a watch that a child is about to leave, and for how long: that is a matter of microseconds.
const PAUSE: Duration = Duration::from_millis(5);
const POLLS: u32 = 400;
/// A thread is told of before it has gone to sleep in its call, and cannot be seen there before: a matter of microseconds,
/// if the machine lets it run. How often is looked again for one whose call was received, and after how long; God does
/// nothing else meanwhile.
const SLEEP_PAUSE: Duration = Duration::from_millis(2);
const SLEEP_POLLS: u32 = 50;

/// The watch of a worker whose start was cut short on our side. `None` if the child ended before it left one.
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
    /// Answers what is unanswered, in the order it came, and takes in what came since.
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
        // Who was killed meanwhile waits no more.
        let lost = lost.map(|ids| ids.into_iter().filter(is_waited_for).collect());
        match identify_lost_call(root, lost, waiting) {
            Ok(request) => request.into_iter().for_each(|request| self.handle_call(run, &request)),
            Err(thread) => self.kill_worker(run, root, thread),
        }
        received.into_iter().for_each(|request| self.handle_call(run, &request));
        self.repeat_notices(run);
    }

    fn kill_worker(&self, run: Run, root: i32, thread: i32) {
        tracing::error!(
            run = run.0,
            thread,
            "a worker waits for an answer that nobody can give any more: it is killed"
        );
        for pid in tree::descendants(&[root]) {
            // It may have ended by itself.
            let _ = tree::signal(pid, libc::SIGKILL);
        }
    }

    /// The God before may not have got round to saying so.
    fn repeat_notices(&mut self, run: Run) {
        for key in self.queues.listening_keys(run) {
            self.notify_listening(run, &key);
        }
        for key in self.queues.unread_datagram_keys(run) {
            self.expect_reading(run, key);
        }
    }
}

/// Threads that wait, but not for anything we can receive, or know of. What can be received is.
fn unreceived_calls(
    root: i32,
    known: Option<&Request>,
    watch: &BindWatch,
    received: &mut Vec<Request>,
) -> Vec<(i32, Call)> {
    let mut calls = watch.waiting_calls(&tree::descendants(&[root]));
    // Who waits by now has been told of, so this comes second.
    while let Ok(Some(request)) = watch.next() {
        received.push(request);
    }
    // Other addresses the kernel is not asked for by way of us: it may take its time with a file.
    let concerns_us = |call: &Call| match call {
        Call::Bind { address, .. } => address.ip().is_some(),
        Call::BindUnreadable { .. } | Call::Listen { .. } => true,
    };
    let heard = |thread: i32| received.iter().chain(known).any(|request| request.thread == thread);
    calls.retain(|(thread, call)| concerns_us(call) && !heard(*thread));
    calls
}

/// The call that was lost, if one was; a thread that waits in vain if it cannot be told which, or `root` if we may not
/// look which thread that is.
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
