//! After an exit: again, later, or give up, and the reason in words.
//!
//! PM2's numbers with two of its defects removed. An exit is *unstable* if the run lived shorter than `min_uptime`.
//! `max_restarts` unstable exits within a window of `min_uptime × max_restarts` end in `errored`. PM2 opens that window
//! only once, at creation, so its guard is dead afterwards and after a resurrect; here it slides, so it always holds.
//! An app whose restarts are slowed by a delay or backoff beyond that rate is tried for ever, as its spec sets it.
//!
//! A run that ended while no daemon watched ([`Exit::Unknown`]) is taken for a crash: an app started again that meant to
//! end is seen and put right, one left down that had crashed is an outage. So no `stop_exit_codes` apply, but
//! `autorestart = false` does: there any end is final. Its lifetime is counted to the moment of the finding, the longest
//! it can have been: it is unstable only if it cannot have lived long, and each such end takes a death of the daemon,
//! so no crash loop hides behind it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use crate::protocol::Exit;
use crate::spec::{RestartRule, signal, value};

/// Longest wait of the exponential backoff.
const BACKOFF_CEILING: Duration = Duration::from_secs(15);
/// A run that lived this long has its backoff forgotten.
const BACKOFF_RESET: Duration = Duration::from_secs(30);
/// First wait after a start that failed for want of resources; doubles up to the ceiling.
const SPAWN_RETRY: Duration = Duration::from_millis(100);

/// The earlier exits of a process, as far as the decision needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Unstable exits within the window, oldest first; never longer than `max_restarts`.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    unstable: VecDeque<Moment>,
    /// Last wait of the backoff.
    #[serde(with = "value::millis_option", default, skip_serializing_if = "Option::is_none")]
    wait: Option<Duration>,
}

/// How a run ended, as far as the decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ran and exited.
    Exited(Exit),
    /// It hung and was terminated.
    Hung,
    /// It could not be started; `permanent` if trying again cannot help.
    NotSpawned {
        /// True for a missing or unexecutable program; false for want of resources.
        permanent: bool,
    },
}

/// What to do after an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start again at once.
    Now,
    /// Start again after this wait.
    After(Duration),
    /// Stay down, as the spec sets it.
    StayDown,
    /// Give up: too many unstable exits, or nothing to start.
    GiveUp,
}

impl History {
    /// Unstable exits that count now.
    #[must_use]
    pub fn unstable(&self) -> u32 {
        u32::try_from(self.unstable.len()).unwrap_or(u32::MAX)
    }

    /// True if nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        *self == History::default()
    }

    /// Decides, and remembers what the next decision needs.
    pub fn decide(&mut self, rule: &RestartRule, end: End, lived: Duration, now: Moment) -> Decision {
        if matches!(end, End::NotSpawned { permanent: true }) {
            self.clear();
            return Decision::GiveUp;
        }
        if !rule.autorestart || matches!(end, End::Exited(Exit::Code(code)) if rule.stop_exit_codes.contains(&code)) {
            return Decision::StayDown;
        }
        if lived < rule.min_uptime && self.overrun(rule, now) {
            self.clear();
            return Decision::GiveUp;
        }
        if lived > BACKOFF_RESET {
            self.wait = None;
        }
        self.delay(rule, end)
    }

    /// Forgets all exits: a client started the process again.
    pub fn clear(&mut self) {
        *self = History::default();
    }

    fn overrun(&mut self, rule: &RestartRule, now: Moment) -> bool {
        let window = rule.min_uptime.saturating_mul(rule.max_restarts);
        while self.unstable.front().is_some_and(|first| now.since(*first) >= window) {
            self.unstable.pop_front();
        }
        self.unstable.push_back(now);
        self.unstable() >= rule.max_restarts
    }

    fn delay(&mut self, rule: &RestartRule, end: End) -> Decision {
        let first = match (rule.backoff, end) {
            (Some(first), _) => first,
            (None, End::NotSpawned { .. }) => SPAWN_RETRY,
            (None, End::Exited(_) | End::Hung) if rule.delay.is_zero() => return Decision::Now,
            (None, End::Exited(_) | End::Hung) => return Decision::After(rule.delay),
        };
        let wait = match self.wait {
            None => first.min(BACKOFF_CEILING),
            // Half of a millisecond is none, and it is to grow.
            Some(last) => {
                let longer = Duration::from_millis(u64::try_from(last.as_millis() * 3 / 2).unwrap_or(u64::MAX));
                longer.max(last.saturating_add(Duration::from_millis(1)))
            }
        };
        let wait = wait.min(BACKOFF_CEILING);
        self.wait = Some(wait);
        Decision::After(wait)
    }
}

/// `exited with code 1`, `was killed by SIGKILL`.
#[must_use]
pub fn in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(number) => format!("was killed by {}", signal::name(number)),
        Exit::Unknown => "ended with an unknown status".to_owned(),
        Exit::OutOfMemory { limit } => {
            format!("was killed by the kernel: it used more than its limit of {} of memory", value::megabytes(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> RestartRule {
        RestartRule::default()
    }

    const CRASH: End = End::Exited(Exit::Code(1));

    /// Lets it crash `lived` after each start until something else than a restart comes; returns (restarts, what).
    fn crash_until(rule: &RestartRule, lived: Duration, most: u32) -> (u32, Option<Decision>) {
        let (mut history, mut now) = (History::default(), Moment(1000));
        for restarts in 0..most {
            now = now.after(lived);
            match history.decide(rule, CRASH, lived, now) {
                Decision::Now => {}
                Decision::After(wait) => now = now.after(wait),
                other => return (restarts, Some(other)),
            }
        }
        (most, None)
    }

    #[test]
    fn a_default_crash_loop_gives_up_after_fifteen_restarts() {
        assert_eq!(crash_until(&rule(), Duration::from_millis(30), 100), (15, Some(Decision::GiveUp)));
        let three = RestartRule { max_restarts: 3, ..rule() };
        assert_eq!(crash_until(&three, Duration::from_millis(30), 100), (2, Some(Decision::GiveUp)));
    }

    #[test]
    fn stable_runs_never_count_and_old_crashes_are_forgotten() {
        assert_eq!(crash_until(&rule(), Duration::from_millis(1000), 1000), (1000, None));
        let mut history = History::default();
        for minute in 0..1000 {
            let now = Moment(60_000 * minute);
            assert_eq!(history.decide(&rule(), CRASH, Duration::from_millis(5), now), Decision::Now);
            assert_eq!(history.unstable(), 1);
        }
    }

    #[test]
    fn the_restart_limit_holds_at_any_age() {
        let mut history = History::default();
        let mut now = Moment(1_000_000_000);
        let mut restarts = 0;
        while history.decide(&rule(), CRASH, Duration::from_millis(5), now) == Decision::Now {
            now = now.after(Duration::from_millis(40));
            restarts += 1;
        }
        assert_eq!(restarts, 15);
    }

    #[test]
    fn an_app_with_a_slow_delay_is_restarted_for_ever() {
        let slow = RestartRule { delay: Duration::from_secs(5), ..rule() };
        assert_eq!(crash_until(&slow, Duration::from_millis(5), 500), (500, None));
    }

    #[test]
    fn the_backoff_grows_by_half_to_fifteen_seconds_and_is_forgotten_after_a_long_run() {
        let rule = RestartRule { backoff: Some(Duration::from_millis(100)), ..rule() };
        let mut history = History::default();
        let mut now = Moment(0);
        let mut waits = Vec::new();
        for _ in 0..15 {
            now = now.after(Duration::from_secs(2));
            match history.decide(&rule, CRASH, Duration::from_secs(2), now) {
                Decision::After(wait) => waits.push(u64::try_from(wait.as_millis()).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(waits[..11], [100, 150, 225, 337, 505, 757, 1135, 1702, 2553, 3829, 5743]);
        assert_eq!(waits[14], 15_000);
        let after_long = history.decide(&rule, CRASH, Duration::from_secs(31), now);
        assert_eq!(after_long, Decision::After(Duration::from_millis(100)));
    }

    #[test]
    fn the_shortest_backoff_grows_too() {
        let rule = RestartRule { backoff: Some(Duration::from_millis(1)), ..rule() };
        let mut history = History::default();
        let waits = [1, 2, 3, 4, 6, 9].map(|millis| Decision::After(Duration::from_millis(millis)));
        for wait in waits {
            assert_eq!(history.decide(&rule, CRASH, Duration::from_secs(2), Moment(0)), wait);
        }
    }

    #[test]
    fn the_spec_can_keep_an_app_down_after_its_exit() {
        let mut history = History::default();
        let once = RestartRule { autorestart: false, ..rule() };
        assert_eq!(history.decide(&once, CRASH, Duration::ZERO, Moment(0)), Decision::StayDown);
        let on_zero = RestartRule { stop_exit_codes: vec![0], ..rule() };
        let zero = End::Exited(Exit::Code(0));
        assert_eq!(history.decide(&on_zero, zero, Duration::ZERO, Moment(0)), Decision::StayDown);
        assert_eq!(history.decide(&on_zero, CRASH, Duration::ZERO, Moment(0)), Decision::Now);
        let killed = End::Exited(Exit::Signal(9));
        assert_eq!(history.decide(&on_zero, killed, Duration::ZERO, Moment(0)), Decision::Now, "a signal is no code 0");
    }

    #[test]
    fn an_unknown_exit_is_a_crash_and_unstable_only_if_the_run_was_short() {
        let unseen = End::Exited(Exit::Unknown);
        let (short, long) = (Duration::from_millis(999), Duration::from_secs(1));
        let mut history = History::default();
        let on_zero = RestartRule { stop_exit_codes: vec![0], ..rule() };
        assert_eq!(history.decide(&on_zero, unseen, long, Moment(0)), Decision::Now);
        assert_eq!(history.unstable(), 0);
        assert_eq!(history.decide(&on_zero, unseen, short, Moment(0)), Decision::Now);
        assert_eq!(history.unstable(), 1);
        let once = RestartRule { autorestart: false, ..rule() };
        assert_eq!(history.decide(&once, unseen, long, Moment(0)), Decision::StayDown);
    }

    #[test]
    fn a_failed_spawn_is_given_up_or_retried_with_growing_delays() {
        let mut history = History::default();
        let missing = End::NotSpawned { permanent: true };
        assert_eq!(history.decide(&rule(), missing, Duration::ZERO, Moment(0)), Decision::GiveUp);
        let starved = End::NotSpawned { permanent: false };
        let first = history.decide(&rule(), starved, Duration::ZERO, Moment(0));
        let second = history.decide(&rule(), starved, Duration::ZERO, Moment(100));
        assert_eq!((first, second), (Decision::After(SPAWN_RETRY), Decision::After(Duration::from_millis(150))));
    }
}
