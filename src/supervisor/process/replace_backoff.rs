//! How long the supervisor leaves a process alone that it tried to replace of its own accord, in vain.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervisor::moment::Moment;

/// The first wait; it doubles with every failure.
const FIRST: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST: Duration = Duration::from_secs(3600);

/// When a replacement that failed may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceBackoff {
    /// Not before.
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

    /// True if it may be tried.
    #[must_use]
    pub fn is_over(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// It was replaced, or could not be.
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
    fn it_doubles_to_an_hour_and_is_forgotten_after_a_success() {
        let mut patience = ReplaceBackoff::default();
        assert!(patience.is_over(Moment(0)));
        let mut waits = Vec::new();
        for _ in 0..9 {
            patience.note(false, Moment(0));
            waits.push(patience.until.expect("a failure waits").0 / 1000);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(!patience.is_over(Moment(3_599_999)) && patience.is_over(Moment(3_600_000)));
        patience.note(true, Moment(0));
        assert!(patience.is_over(Moment(0)) && patience.is_default());
    }
}
