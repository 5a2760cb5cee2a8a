//! The backoff between replacements of one process that the supervisor decides itself, because of health or memory.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervisor::moment::Moment;

/// The wait after the first failure; it doubles with every further one.
const FIRST: Duration = Duration::from_secs(30);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(3600);

/// When a replacement that failed may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceBackoff {
    /// When the next replacement may begin; `None` after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
    /// Failures in a row.
    #[serde(default)]
    failures: u32,
}

impl ReplaceBackoff {
    pub(crate) fn is_default(&self) -> bool {
        *self == ReplaceBackoff::default()
    }

    /// True if a replacement may begin.
    #[must_use]
    pub fn is_over(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// A replacement ended: it succeeded, or the wait grows.
    pub fn note(&mut self, replaced: bool, now: Moment) {
        if replaced {
            return *self = ReplaceBackoff::default();
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        *self = ReplaceBackoff { until: Some(now.after(wait)), failures: self.failures.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_an_hour_and_ends_with_a_success() {
        let mut backoff = ReplaceBackoff::default();
        assert!(backoff.is_over(Moment(0)));
        let mut waits = Vec::new();
        for _ in 0..9 {
            backoff.note(false, Moment(0));
            waits.push(backoff.until.expect("a failure waits").0 / 1000);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(!backoff.is_over(Moment(3_599_999)) && backoff.is_over(Moment(3_600_000)));
        backoff.note(true, Moment(0));
        assert!(backoff.is_over(Moment(0)) && backoff.is_default());
    }
}
