//! Checks how evenly connections are spread: as evenly as the balance promises.

use std::fmt;

/// How the kernel or God picks a worker for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each worker in turn.
    RoundRobin,
    /// A random worker.
    Random,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Balance::RoundRobin => "in turn",
            Balance::Random => "by chance",
        })
    }
}

impl Balance {
    /// Checks a split: the number of connections of each worker. `Err` with the reason if the balance does not produce
    /// such a split.
    ///
    /// Round robin leaves no room: each worker has as many connections as the next. For a random balance, the sum of
    /// squared deviations, each divided by the expected number, has a chi-square distribution with one degree of
    /// freedom less than there are workers. A fair balance exceeds the bounds once in a million times.
    pub fn check(self, split: &[u64]) -> Result<(), String> {
        let (all, workers) = (split.iter().sum::<u64>() as f64, split.len() as f64);
        let share = all / workers;
        let fair = match self {
            Balance::RoundRobin => split.iter().all(|count| *count as f64 == share),
            Balance::Random => {
                let off: f64 = split.iter().map(|count| (*count as f64 - share).powi(2) / share).sum();
                off <= ONE_IN_A_MILLION[split.len() - 2]
            }
        };
        if fair { Ok(()) } else { Err(format!("{split:?} is not a split made {self}")) }
    }
}

/// Quantiles of the chi-square distributions of one to three degrees of freedom.
const ONE_IN_A_MILLION: [f64; 3] = [23.93, 27.63, 30.66];

#[test]
fn a_split_is_checked_against_its_balance() {
    assert!(Balance::RoundRobin.check(&[10, 10]).is_ok());
    assert!(Balance::RoundRobin.check(&[11, 9]).is_err());
    assert!(Balance::Random.check(&[120, 80]).is_ok());
    assert!(Balance::Random.check(&[140, 60]).is_err());
    assert!(Balance::Random.check(&[60, 40, 55, 45]).is_ok());
    assert!(Balance::Random.check(&[0, 200]).is_err());
    assert!(Balance::Random.check(&[90, 50, 30, 30]).is_err());
}
