//! The counters of a load.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Instant;

/// Number of lost requests that are listed; more are only counted.
const LISTED: usize = 1000;

/// How a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// No connection could be made.
    Refused,
    /// The connection ended before a whole response head had come.
    Reset,
    /// It ended within the body.
    Truncated,
    /// No complete response within the limit.
    Hung,
    /// A status other than 200, or no HTTP.
    Bad,
}

/// One lost request.
#[derive(Clone, Debug)]
pub struct LostRequest {
    /// How it was lost.
    pub loss: Loss,
    /// The worker that answered on the same connection before; `None` on a new one.
    pub worker: Option<String>,
    /// When the client last checked that the connection was open, before it sent the request.
    pub sent: Instant,
    /// When the client noticed the loss.
    pub noticed: Instant,
}

/// Counters of one kind of clients. Each request is in exactly one of the first six.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests with a complete response, status 200.
    pub answered: u64,
    /// See [`Loss::Refused`].
    pub refused: u64,
    /// See [`Loss::Reset`].
    pub reset: u64,
    /// See [`Loss::Truncated`].
    pub truncated: u64,
    /// See [`Loss::Hung`].
    pub hung: u64,
    /// See [`Loss::Bad`].
    pub bad: u64,
    /// Kept connections that the server closed while no request was under way. No request is lost by that.
    pub closed_idle: u64,
    /// Answered requests by pid of the worker, if the response named it.
    pub workers: BTreeMap<String, u64>,
}

impl Counts {
    /// Number of lost requests.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.truncated + self.hung + self.bad
    }

    /// Number of all requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answered + self.failed()
    }

    fn since(&self, earlier: &Counts) -> Counts {
        let part = |(name, count): (&String, &u64)| (name.clone(), count - earlier.workers.get(name).unwrap_or(&0));
        Counts {
            answered: self.answered - earlier.answered,
            refused: self.refused - earlier.refused,
            reset: self.reset - earlier.reset,
            truncated: self.truncated - earlier.truncated,
            hung: self.hung - earlier.hung,
            bad: self.bad - earlier.bad,
            closed_idle: self.closed_idle - earlier.closed_idle,
            workers: self.workers.iter().map(part).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.truncated += other.truncated;
        self.hung += other.hung;
        self.bad += other.bad;
        self.closed_idle += other.closed_idle;
        for (name, count) in &other.workers {
            *self.workers.entry(name.clone()).or_default() += count;
        }
    }
}

/// The report of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Counters of the clients that keep their connection.
    pub keep_alive: Counts,
    /// Counters of the clients that open a connection for each request.
    pub fresh: Counts,
    /// The first lost requests, in order; 1000 at most.
    pub losses: Vec<LostRequest>,
}

impl LoadReport {
    /// The sum of both kinds.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = self.keep_alive.clone();
        all += &self.fresh;
        all
    }

    /// The difference to an earlier report of the same load.
    #[must_use]
    pub fn since(&self, earlier: &LoadReport) -> LoadReport {
        LoadReport {
            keep_alive: self.keep_alive.since(&earlier.keep_alive),
            fresh: self.fresh.since(&earlier.fresh),
            losses: self.losses[earlier.losses.len()..].to_vec(),
        }
    }

    pub(super) fn of(&mut self, keeps: bool) -> &mut Counts {
        if keeps { &mut self.keep_alive } else { &mut self.fresh }
    }

    pub(super) fn answered(&mut self, keeps: bool, worker: Option<&str>) {
        let counts = self.of(keeps);
        counts.answered += 1;
        let Some(worker) = worker else { return };
        match counts.workers.get_mut(worker) {
            Some(count) => *count += 1,
            None => _ = counts.workers.insert(worker.to_owned(), 1),
        }
    }

    pub(super) fn lost(&mut self, keeps: bool, lost: LostRequest) {
        let counts = self.of(keeps);
        *match lost.loss {
            Loss::Refused => &mut counts.refused,
            Loss::Reset => &mut counts.reset,
            Loss::Truncated => &mut counts.truncated,
            Loss::Hung => &mut counts.hung,
            Loss::Bad => &mut counts.bad,
        } += 1;
        if self.losses.len() < LISTED {
            self.losses.push(lost);
        }
    }
}
