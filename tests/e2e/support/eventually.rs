//! Waits for conditions, with a limit generous enough for a busy machine.

use std::time::{Duration, Instant};

use super::deadline;

/// How long a test waits for anything before it fails: much longer than it ever takes, so that a failure means a hang
/// and not a slow machine.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// Polls until `look` returns `Ok`, and returns that value. `Err` describes the present state for the failure message.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if start.elapsed() > WAIT_LIMIT => {
                panic!("not in {WAIT_LIMIT:?}: {what}; instead:\n{instead}")
            }
            Err(instead) if deadline::is_over() => {
                panic!("the test's time is over before: {what}; instead:\n{instead}")
            }
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Polls until the condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || if holds() { Ok(()) } else { Err(String::new()) });
}
