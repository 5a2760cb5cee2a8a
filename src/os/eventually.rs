//! How tests wait for a condition.
//!
//! They must wait even for the effect of closing a file: between fork and exec a child that another test starts has all
//! files of this process open. So for a moment a socket still listens, a pipe has not ended, and a lock is still held.

use std::time::{Duration, Instant};

/// Longer than any condition takes on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Waits until the condition holds.
///
/// # Panics
/// If it does not hold in time.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIME_LIMIT, "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
