//! Waiting for what must come true, with a deadline generous enough for a busy machine.

use std::time::{Duration, Instant};

use super::deadline;

/// How long anything may take before a test fails: much longer than it does take, so that what fails here has hung, and
/// was not merely slow.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// Asks again and again until there is an answer, and returns it. `Err` says what there was instead.
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

/// Waits for a condition that has nothing more to say.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || if holds() { Ok(()) } else { Err(String::new()) });
}
