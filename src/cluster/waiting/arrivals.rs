//! Since when connections wait in an accept queue, and how many. The kernel does not report the first, and the next
//! daemon must know it.
//!
//! The kernel signals each arrival, reports how many connections wait, and hands them out in order of arrival. So each
//! update adds the new ones at the back, and removes those that have gone from the front.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Arrivals within this fraction of the timeout, or within [`MAX_ENTRY`], are one entry, with the time of its end. So
/// the number of entries does not grow with the number of connections, and no connection is rejected before its time.
const ENTRIES: u32 = 32;
/// The longest time of one entry.
const MAX_ENTRY: Duration = Duration::from_secs(1);

/// The connections that wait, the oldest first: when they had arrived, in ms of the monotonic clock, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Arrivals(VecDeque<(u64, u32)>);

impl Arrivals {
    /// Sets how many connections wait, each for `timeout` at most. True if the change must be saved. A larger count of
    /// a known entry need not be: to the next daemon the additional connections are new, at most the length of an entry
    /// too late.
    pub(crate) fn update(&mut self, waiting: u32, timeout: Duration, now: u64) -> bool {
        let known: u32 = self.0.iter().map(|(_, count)| count).sum();
        let left = self.remove(known.saturating_sub(waiting));
        let new = waiting.saturating_sub(known);
        let length = millis((timeout / ENTRIES).min(MAX_ENTRY)).max(1);
        let arrived = now.next_multiple_of(length);
        match self.0.back_mut() {
            _ if new == 0 => left,
            Some((at, count)) if *at >= arrived => {
                *count += new;
                left
            }
            Some(_) | None => {
                self.0.push_back((arrived, new));
                true
            }
        }
    }

    /// Removes the connections that have waited for `timeout`, and returns how many.
    pub(crate) fn take_expired(&mut self, timeout: Duration, now: u64) -> u32 {
        let is_expired = |(arrived, _): &(u64, u32)| arrived.saturating_add(millis(timeout)) <= now;
        let mut expired = 0;
        while let Some((_, count)) = self.0.pop_front_if(|entry| is_expired(entry)) {
            expired += count;
        }
        expired
    }

    /// The time until the oldest connection has waited for `timeout`; `None` if none waits.
    pub(crate) fn next_expiry(&self, timeout: Duration, now: u64) -> Option<Duration> {
        let (arrived, _) = self.0.front()?;
        Some(Duration::from_millis(arrived.saturating_add(millis(timeout)).saturating_sub(now)))
    }

    /// Removes this many from the front. True if it is any.
    fn remove(&mut self, mut count: u32) -> bool {
        let any = count > 0;
        while let Some((_, front)) = self.0.front_mut().filter(|_| count > 0) {
            let leaving = count.min(*front);
            (*front, count) = (*front - leaving, count - leaving);
            if *front == 0 {
                self.0.pop_front();
            }
        }
        any
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(3200);

    #[test]
    fn each_connection_expires_by_its_own_time_in_order_of_arrival() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.next_expiry(TIMEOUT, 0), None);
        assert!(arrivals.update(2, TIMEOUT, 1000));
        assert!(arrivals.update(3, TIMEOUT, 2000));
        assert!(!arrivals.update(3, TIMEOUT, 2500), "nothing has happened");
        assert_eq!(
            (arrivals.take_expired(TIMEOUT, 4199), arrivals.next_expiry(TIMEOUT, 4199)),
            (0, Some(Duration::from_millis(1)))
        );
        assert_eq!((arrivals.take_expired(TIMEOUT, 4200), arrivals.take_expired(TIMEOUT, 5199)), (2, 0));
        assert!(arrivals.update(0, TIMEOUT, 5199), "a worker took the last");
        assert_eq!(arrivals, Arrivals::default());
    }

    #[test]
    fn a_flood_of_connections_is_few_entries_and_none_expires_too_early() {
        let mut arrivals = Arrivals::default();
        let mut changes = 0;
        for now in 1..=3200 {
            changes += u32::from(arrivals.update(u32::try_from(now).unwrap(), TIMEOUT, now));
        }
        assert_eq!((arrivals.0.len(), changes), (32, 32));
        for now in 3201..=6500 {
            let gone = 3200 - arrivals.0.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            arrivals.take_expired(TIMEOUT, now);
            assert!(
                gone <= now - 3200,
                "the connection that arrived at {gone} has waited for less than the timeout at {now}"
            );
        }
        assert_eq!(arrivals, Arrivals::default());
    }

    #[test]
    fn the_next_daemon_goes_on_with_the_saved_arrivals() {
        let mut arrivals = Arrivals::default();
        arrivals.update(2, TIMEOUT, 1000);
        let json = serde_json::to_string(&arrivals).unwrap();
        assert_eq!(json, "[[1000,2]]");
        let mut arrivals: Arrivals = serde_json::from_str(&json).unwrap();
        assert!(arrivals.update(5, TIMEOUT, 4000), "three arrived between the daemons");
        assert_eq!((arrivals.take_expired(TIMEOUT, 4200), arrivals.take_expired(TIMEOUT, 7200)), (2, 3));
    }
}
