//! Waiting for signals in a process that does nothing else.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

/// Signals that are blocked, so that they wait until they are asked for.
#[derive(Debug)]
pub struct BlockedSignals(SigSet);

impl BlockedSignals {
    /// Blocks these signals in this thread.
    pub fn block(signals: &[Signal]) -> io::Result<BlockedSignals> {
        let set: SigSet = signals.iter().copied().collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(BlockedSignals(set))
    }

    /// Waits for the next one, for at most `limit` if there is one; `None` when the time is up or something else
    /// happened.
    #[must_use]
    pub fn next(&self, limit: Option<Duration>) -> Option<Signal> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is initialised, nothing is asked about the sender, and the time lives until the call is over.
        let number = unsafe { libc::sigtimedwait(self.0.as_ref(), std::ptr::null_mut(), limit) };
        Signal::try_from(number).ok()
    }
}

/// Lets every signal through again, in a process that was started by one that blocked some.
pub fn unblock_all() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
