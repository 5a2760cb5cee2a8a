//! The outcome of a scenario: a row of the table, and its faults.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::balance::Balance;
use crate::catalog::Program;
use crate::load::{Failed, LoadStats};
use crate::scenario::{CLIENTS, KEEPALIVE_CLIENTS, User};

/// A step of the scenario, under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This number of reloads.
    Reload(usize),
    /// Scaling from two workers to four and back.
    Scale,
    KillWorker,
    KillGod,
    /// Idle without clients, then started by a client.
    Wake,
}

impl Step {
    /// Number of workers that are stopped. `None` if one is killed.
    fn stopped(self) -> Option<usize> {
        match self {
            Step::Reload(times) => Some(2 * times),
            Step::Scale => Some(2),
            Step::KillWorker => None,
            Step::KillGod | Step::Wake => Some(0),
        }
    }
}

/// Requests that were lost in a step.
#[derive(Debug)]
pub struct Losses {
    /// Failed requests on connections that are kept alive.
    pub kept: Vec<Failed>,
    /// Failed requests on new connections.
    pub new: Vec<Failed>,
    /// Number of requests on kept-alive connections that ended without a byte of an answer. The client retried them and
    /// got an answer.
    pub retried: u64,
}

/// Tallies of the three modes: connections that clients never close, close after some requests, and close after one.
pub type Tallies = [LoadStats; 3];

impl Losses {
    pub fn between([kept, few, new]: &Tallies, [kept_now, few_now, new_now]: &Tallies) -> Losses {
        let retried = kept_now.stale - kept.stale + few_now.stale - few.stale;
        let kept = [kept_now.since(kept), few_now.since(few)].concat();
        Losses { kept, new: new_now.since(new), retried }
    }

    /// Number of requests without an answer.
    pub fn lost(&self) -> usize {
        self.kept.len() + self.new.len()
    }

    /// True if no more requests were lost than the step makes inevitable.
    fn may_be(&self, step: Step, program: &Program) -> bool {
        let Losses { kept, new, retried } = self;
        let retried = usize::try_from(*retried).expect("not that many");
        let cut = |failed: &Failed| match &*failed.how {
            "reset" | "truncated" => true,
            "wrong" => program.error_on_kill.is_some() && failed.what.starts_with("500 "),
            _ => false,
        };
        match step.stopped() {
            // Requests inside the killed worker: at most one of each client.
            None => {
                kept.len() + retried <= KEEPALIVE_CLIENTS && new.len() <= CLIENTS && kept.iter().chain(new).all(cut)
            }
            // A client that never closes its connection finds it closed when the worker ends: once for each stopped
            // worker.
            Some(stopped) => kept.is_empty() && new.is_empty() && retried <= KEEPALIVE_CLIENTS * stopped,
        }
    }
}

/// The outcome of one program, run as one user.
#[derive(Debug)]
pub struct Outcome {
    pub program: &'static Program,
    pub user: User,
    pub balance: Balance,
    /// Number of answers of each of two workers, and of each of four.
    pub split: [Vec<u64>; 2],
    pub steps: Vec<(Step, Losses)>,
    pub answered: u64,
    /// Mean time of a reload.
    pub reload: Duration,
    /// For activated programs: how long the client waited that started the idle app.
    pub wake_time: Option<Duration>,
}

impl Outcome {
    /// All faults: splits and losses that are not allowed.
    pub fn faults(&self) -> Vec<String> {
        let splits = self.split.iter().filter_map(|split| self.balance.check(split).err());
        let steps = self.steps.iter().filter(|(step, losses)| !losses.may_be(*step, self.program));
        splits.chain(steps.map(|(step, losses)| format!("{step:?}: {losses:?}"))).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {} ", self.program.name, self.user, self.balance)?;
        for split in &self.split {
            write!(f, "| {} ", joined(split))?;
        }
        for (_, losses) in &self.steps {
            write!(f, "| {losses} ")?;
        }
        write!(f, "| {} | {:.1} s |", self.answered, self.reload.as_secs_f32())?;
        self.wake_time.map_or(Ok(()), |wake_time| write!(f, " {:.1} s |", wake_time.as_secs_f32()))
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for failed in self.kept.iter().chain(&self.new) {
            *kinds.entry(&failed.how).or_default() += 1;
        }
        let mut words: Vec<String> = kinds.iter().map(|(how, count)| format!("{count} {how}")).collect();
        if words.is_empty() {
            words.push("0".to_owned());
        }
        if self.retried > 0 {
            words.push(format!("{} asked again", self.retried));
        }
        f.write_str(&words.join(", "))
    }
}

/// The numbers of a split, separated by slashes.
pub fn joined(split: &[u64]) -> String {
    split.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}
