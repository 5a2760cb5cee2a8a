//! Calls that one who died had received and not answered.
//!
//! The kernel delivers none of them again; the thread waits, deaf to all signals but the fatal ones, until somebody
//! answers by its number. What was written down in time is answered as it stands. For the instant between receiving and
//! writing down there is this: the numbers follow each other, and the call itself can be read from `/proc` as long as
//! its thread waits in it.

use std::fs;

use super::{BindWatch, Call, Request, RequestId, read_call};
use crate::os::tree;

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
}

/// The calls in which threads of these processes wait at this moment, received or not, with the threads. To be asked
/// when all that can be received was received: what is not among those is lost, and one of [`BindWatch::unanswered_after`].
#[must_use]
pub fn waiting_calls(processes: &[i32]) -> Vec<(i32, Call)> {
    let threads = processes.iter().flat_map(|process| tree::threads(*process));
    threads.filter_map(|thread| Some((thread, waiting_call(thread)?))).collect()
}

/// Joins the numbers that are lost with the calls that are, if there is no doubt which belongs to which: one of each.
#[must_use]
pub fn join(mut lost: Vec<RequestId>, mut calls: Vec<(i32, Call)>) -> Option<Request> {
    match (lost.pop(), calls.pop()) {
        (Some(id), Some((thread, call))) if lost.is_empty() && calls.is_empty() => Some(Request { id, thread, call }),
        _ => None,
    }
}

/// The `bind` or `listen` this thread sleeps in: `/proc/TID/syscall` holds the number and six arguments in hexadecimal.
fn waiting_call(thread: i32) -> Option<Call> {
    let line = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    read_call(thread, number, arguments)
}
