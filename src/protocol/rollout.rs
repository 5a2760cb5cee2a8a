//! How a reload is to go: how many at a time, tried out on a few first, or by force.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::value;

/// How a reload is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How many processes of one app are replaced at a time, at least 1.
    pub parallel: u32,
    /// Goes on whatever fails, and takes a successor that has not proved ready in time for ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// A few first, watched for a while before the rest follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Only report what would happen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Rollout {
    /// So many at a time, nothing more.
    #[must_use]
    pub fn waves(parallel: u32) -> Rollout {
        Rollout { parallel, force: false, canary: None, dry_run: false }
    }
}

/// The few that a reload tries the new release on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// How many processes of each app, as a count or a percentage.
    pub share: Share,
    /// How long they are observed before the rest follows, counted from when the last of them is ready.
    #[serde(rename = "watch", with = "value::millis")]
    pub duration: Duration,
}

/// Some of the processes of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// This number of processes, at least 1.
    Count(u32),
    /// This many in a hundred, rounded up.
    Percent(u32),
}

impl Share {
    /// Reads `2` or `25%`: at least 1, at most 100 percent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Share> {
        let number = |digits: &str| digits.trim().parse::<u32>().ok().filter(|number| *number > 0);
        match text.strip_suffix('%') {
            Some(digits) => number(digits).filter(|percent| *percent <= 100).map(Share::Percent),
            None => number(text).map(Share::Count),
        }
    }

    /// How many of `all` that are; of some, at least one.
    #[must_use]
    pub fn of(self, all: u32) -> u32 {
        let wanted = match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (u64::from(all) * u64::from(percent)).div_ceil(100) as u32,
        };
        wanted.max(1).min(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_rounded_up() {
        assert_eq!((Share::parse("2"), Share::parse("25%")), (Some(Share::Count(2)), Some(Share::Percent(25))));
        for wrong in ["0", "0%", "101%", "", "%", "-1", "half", "1.5"] {
            assert_eq!(Share::parse(wrong), None, "{wrong}");
        }
        assert_eq!((Share::Percent(25).of(4), Share::Percent(26).of(4), Share::Percent(1).of(3)), (1, 2, 1));
        assert_eq!((Share::Count(9).of(4), Share::Count(9).of(0)), (4, 0));
    }
}
