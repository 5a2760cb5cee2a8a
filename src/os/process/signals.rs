//! Waiting for signals in a process that does nothing else.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

/// Signals that are blocked, so that they stay pending until [`BlockedSignals::next`] takes them.
#[derive(Debug)]
pub struct BlockedSignals(SigSet);

impl BlockedSignals {
    /// Blocks these signals in this thread.
    ///
    /// # Errors
    /// None is known.
    pub fn block(signals: &[Signal]) -> io::Result<BlockedSignals> {
        let set: SigSet = signals.iter().copied().collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(BlockedSignals(set))
    }

    /// Waits for the next of these signals, for at most `limit` if there is one. `None` when the time is up or another
    /// signal interrupts the wait.
    #[must_use]
    pub fn next(&self, limit: Option<Duration>) -> Option<Signal> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is initialised, the pointer for the sender may be null, and the limit outlives the call.
        let number = unsafe { libc::sigtimedwait(self.0.as_ref(), std::ptr::null_mut(), limit) };
        Signal::try_from(number).ok()
    }
}

/// Unblocks all signals, in a process that inherited blocked ones.
///
/// # Errors
/// None is known.
pub fn unblock_all() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
