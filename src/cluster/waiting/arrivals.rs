//! Since when connections wait in an accept queue, and how many: what the kernel does not tell, and the next God is to know.
//!
//! It tells of each arrival and how many there are, and hands them out in the order in which they came. So each look at
//! the queue adds those that are new, and takes those that have gone from the front.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Arrivals within this part of the time they may wait are one entry, told as the last of them: however many come, there
/// are no more than so many entries, or one for each second, and nobody is turned away before his time.
const ENTRIES: u32 = 32;
/// The longest such part.
const LONGEST: Duration = Duration::from_secs(1);

/// Those who wait, the first to come first: when they had come, in ms of the monotonic clock, and how many they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Arrivals(VecDeque<(u64, u32)>);

impl Arrivals {
    /// So many wait now, who may do so for `timeout`. True if that is news for the next God: one who knows of an entry
    /// and not how many it has become sees the others for the first time, an entry's length too late.
    pub(crate) fn count(&mut self, waiting: u32, timeout: Duration, now: u64) -> bool {
        let known: u32 = self.0.iter().map(|(_, count)| count).sum();
        let left = self.remove(known.saturating_sub(waiting));
        let new = waiting.saturating_sub(known);
        let length = millis((timeout / ENTRIES).min(LONGEST)).max(1);
        let came = now.next_multiple_of(length);
        match self.0.back_mut() {
            _ if new == 0 => left,
            Some((at, count)) if *at >= came => {
                *count += new;
                left
            }
            Some(_) | None => {
                self.0.push_back((came, new));
                true
            }
        }
    }

    /// Takes out those who have waited for so long, and returns how many they are.
    pub(crate) fn take_late(&mut self, timeout: Duration, now: u64) -> u32 {
        let is_late = |(came, _): &(u64, u32)| came.saturating_add(millis(timeout)) <= now;
        let mut late = 0;
        while let Some((_, count)) = self.0.pop_front_if(|entry| is_late(entry)) {
            late += count;
        }
        late
    }

    /// How long it takes until the first has waited for so long.
    pub(crate) fn next_late(&self, timeout: Duration, now: u64) -> Option<Duration> {
        let (came, _) = self.0.front()?;
        Some(Duration::from_millis(came.saturating_add(millis(timeout)).saturating_sub(now)))
    }

    /// The first so many have left. True if any have.
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
    fn each_has_its_own_time_and_goes_in_the_order_it_came() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.next_late(TIMEOUT, 0), None);
        assert!(arrivals.count(2, TIMEOUT, 1000));
        assert!(arrivals.count(3, TIMEOUT, 2000));
        assert!(!arrivals.count(3, TIMEOUT, 2500), "nothing has happened");
        assert_eq!(
            (arrivals.take_late(TIMEOUT, 4199), arrivals.next_late(TIMEOUT, 4199)),
            (0, Some(Duration::from_millis(1)))
        );
        assert_eq!((arrivals.take_late(TIMEOUT, 4200), arrivals.take_late(TIMEOUT, 5199)), (2, 0));
        assert!(arrivals.count(0, TIMEOUT, 5199), "somebody took the last");
        assert_eq!(arrivals, Arrivals::default());
    }

    #[test]
    fn a_flood_is_a_handful_of_entries_and_nobody_goes_too_early() {
        let mut arrivals = Arrivals::default();
        let mut news = 0;
        for now in 1..=3200 {
            news += u32::from(arrivals.count(u32::try_from(now).unwrap(), TIMEOUT, now));
        }
        assert_eq!((arrivals.0.len(), news), (32, 32));
        for now in 3201..=6500 {
            let gone = 3200 - arrivals.0.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            arrivals.take_late(TIMEOUT, now);
            assert!(gone <= now - 3200, "who came at {gone} has waited for less than its time at {now}");
        }
        assert_eq!(arrivals, Arrivals::default());
    }

    #[test]
    fn the_next_god_goes_on_with_them() {
        let mut arrivals = Arrivals::default();
        arrivals.count(2, TIMEOUT, 1000);
        let json = serde_json::to_string(&arrivals).unwrap();
        assert_eq!(json, "[[1000,2]]");
        let mut arrivals: Arrivals = serde_json::from_str(&json).unwrap();
        assert!(arrivals.count(5, TIMEOUT, 4000), "three came while nobody looked");
        assert_eq!((arrivals.take_late(TIMEOUT, 4200), arrivals.take_late(TIMEOUT, 7200)), (2, 3));
    }
}
