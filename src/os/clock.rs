//! The two clocks: monotonic time for decisions, wall time for display.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of the machine's monotonic clock, suspended time included. Comparable between processes of one boot.
#[must_use]
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Milliseconds since 1970. This clock can jump.
#[must_use]
pub fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The wall time of a moment of the monotonic clock, in milliseconds since 1970. The difference of the clocks is taken
/// in nanoseconds, so that repeated calls for the same moment return the same number.
#[must_use]
pub fn epoch_of(monotonic_ms: u64) -> u64 {
    let (wall, monotonic) = (nanoseconds(ClockId::Realtime), nanoseconds(ClockId::Boottime));
    let at = i128::from(monotonic_ms) * 1_000_000 + wall - monotonic;
    u64::try_from(at / 1_000_000).unwrap_or(0)
}

/// How far local time is ahead of UTC at this moment, in seconds, by the system's zone file; 0 if the C library cannot
/// read that file.
#[must_use]
pub fn local_offset(epoch_seconds: i64) -> i32 {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to local values. Zero is a valid value for the structure: it has numbers, and a pointer
    // that is not followed.
    let parts = unsafe {
        libc::localtime_r(&raw const epoch_seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    i32::try_from(parts.tm_gmtoff).unwrap_or(0)
}

fn nanoseconds(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_local_time_is_that_of_the_time_zone_library() {
        let seconds = i64::try_from(epoch_ms() / 1000).unwrap();
        let zoned = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::system());
        assert_eq!(local_offset(seconds), zoned.offset().seconds());
    }
}
