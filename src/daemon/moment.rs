//! The supervisor's time, from the kernel's monotonic clock, and its way back to wall time.

use crate::os::clock;
use crate::protocol::info::EpochMs;
use crate::supervisor::Moment;

/// The present, in ms of the monotonic clock: what every input is handled with.
#[must_use]
pub(crate) fn now() -> Moment {
    Moment(clock::monotonic_ms())
}

/// A moment as wall time (ms since 1970), for display. It moves when the system clock is set.
#[must_use]
pub(crate) fn wall(at: Moment) -> EpochMs {
    clock::epoch_of(at.0)
}
