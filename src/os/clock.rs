//! The two clocks: monotonic time to decide by, wall time to show.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of the machine's monotonic clock, suspended time included. Comparable between processes of one boot.
#[must_use]
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Milliseconds since 1970, which can jump.
#[must_use]
pub fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The wall time of a moment of the monotonic clock. To be the same each time it is asked, it is reckoned finer than the
/// two are told in.
#[must_use]
pub fn epoch_of(monotonic_ms: u64) -> u64 {
    let (wall, monotonic) = (nanoseconds(ClockId::Realtime), nanoseconds(ClockId::Boottime));
    let at = i128::from(monotonic_ms) * 1_000_000 + wall - monotonic;
    u64::try_from(at / 1_000_000).unwrap_or(0)
}

fn nanoseconds(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}
