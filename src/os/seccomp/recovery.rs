//! Calls that a God received and did not answer before it died.
//!
//! The kernel does not deliver them again. The thread waits, and reacts only to fatal signals, until the call is
//! answered by its number. A call that was recorded is answered from its record. A God may also die between receiving a
//! call and recording it. Such a call is found again, since the numbers are consecutive, and the call itself can be
//! read from `/proc` while its thread waits in it.

use super::bind_watch::BindWatch;
use super::call::{Call, Request, RequestId, read_call};
use crate::os::process::tree;

/// How many numbers after the last known one are tried. Each thread that was killed while it waited has used one.
const REACH: u64 = 256;

impl BindWatch {
    /// The numbers after `last` that were received and not answered. The caller must remove the recorded ones: there
    /// may be others than `last`.
    #[must_use]
    pub fn unanswered_after(&self, last: RequestId) -> Vec<RequestId> {
        let numbers = (1..=REACH).map(|step| RequestId(last.0.wrapping_add(step)));
        numbers.filter(|id| self.is_waiting(*id).unwrap_or(false)).collect()
    }

    /// The calls in which threads of these processes wait at this moment, received or not, with the threads, as far as
    /// they can be read. To be called when all calls that can be received were received: a call that is not among those
    /// is lost, and one of [`BindWatch::unanswered_after`].
    #[must_use]
    pub fn waiting_calls(&self, processes: &[i32]) -> Vec<(i32, Call)> {
        let threads = processes.iter().flat_map(|process| tree::threads(*process));
        threads.filter_map(|thread| Some((thread, self.waiting_call(thread)?))).collect()
    }

    /// The `bind` or `listen` in which this thread sleeps.
    fn waiting_call(&self, thread: i32) -> Option<Call> {
        let (number, arguments) = self.tracer.system_call(thread)?;
        read_call(&self.tracer, thread, number, arguments)
    }
}

/// Joins a lost number with a lost call. Only if there is one of each is it certain that they belong together.
#[must_use]
pub fn join(mut lost: Vec<RequestId>, mut calls: Vec<(i32, Call)>) -> Option<Request> {
    match (lost.pop(), calls.pop()) {
        (Some(id), Some((thread, call))) if lost.is_empty() && calls.is_empty() => Some(Request { id, thread, call }),
        _ => None,
    }
}
