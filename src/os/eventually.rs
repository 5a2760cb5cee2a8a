//! How tests wait for what comes by itself.
//!
//! Also for a file that they closed: between fork and exec a child that another test starts has all files of this process
//! open, so for a moment a socket still listens, a pipe has not ended, and a lock is still held.

use std::time::{Duration, Instant};

/// Longer than a busy machine takes for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
