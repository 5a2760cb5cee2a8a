//! Calls that one who died had received and not answered.
//!
//! The kernel delivers none of them again; the thread waits, deaf to all signals but the fatal ones, until somebody
//! answers by its number. What was written down in time is answered as it stands. For the instant between receiving and
//! writing down there is this: the numbers follow each other, and the call itself can be read from `/proc` as long as
//! its thread waits in it.

use super::bind_watch::BindWatch;
use super::call::{Call, Request, RequestId, read_call};
use crate::os::process::tree;

/// How many numbers beyond the last known one are tried. Each thread that was killed while it waited used up one.
const REACH: u64 = 256;

impl BindWatch {
    /// The numbers after `last` that were received and not answered. Received ones that are known are not `last` alone:
    /// leave them out of the result.
    #[must_use]
    pub fn unanswered_after(&self, last: RequestId) -> Vec<RequestId> {
        let numbers = (1..=REACH).map(|step| RequestId(last.0.wrapping_add(step)));
        numbers.filter(|id| self.is_waiting(*id).unwrap_or(false)).collect()
    }

    /// The calls in which threads of these processes wait at this moment, received or not, with the threads, as far as
    /// we may know. To be asked when all that can be received was received: what is not among those is lost, and one of
    /// [`BindWatch::unanswered_after`].
    #[must_use]
    pub fn waiting_calls(&self, processes: &[i32]) -> Vec<(i32, Call)> {
        let threads = processes.iter().flat_map(|process| tree::threads(*process));
        threads.filter_map(|thread| Some((thread, self.waiting_call(thread)?))).collect()
    }

    /// The `bind` or `listen` this thread sleeps in.
    fn waiting_call(&self, thread: i32) -> Option<Call> {
        let (number, arguments) = self.tracer.system_call(thread)?;
        read_call(&self.tracer, thread, number, arguments)
    }
}

/// Joins the numbers that are lost with the calls that are, if there is no doubt which belongs to which: one of each.
#[must_use]
pub fn join(mut lost: Vec<RequestId>, mut calls: Vec<(i32, Call)>) -> Option<Request> {
    match (lost.pop(), calls.pop()) {
        (Some(id), Some((thread, call))) if lost.is_empty() && calls.is_empty() => Some(Request { id, thread, call }),
        _ => None,
    }
}
