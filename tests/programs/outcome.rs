//! What a story came to: a row of the table, and what in it must not be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::balance::Balance;
use crate::catalog::Program;
use crate::load::{Failed, Tally};
use crate::scenario::{CLIENTS, KEEPALIVE_CLIENTS, User};

/// What was done under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many reloads.
    Reload(usize),
    /// From two workers to four and back.
    Scale,
    KillWorker,
    KillGod,
    /// At rest, since nobody came; then somebody does.
    Wake,
}

impl Step {
    /// How many workers are told to stop; `None` if one is killed.
    fn stopped(self) -> Option<usize> {
        match self {
            Step::Reload(times) => Some(2 * times),
            Step::Scale => Some(2),
            Step::KillWorker => None,
            Step::KillGod | Step::Wake => Some(0),
        }
    }
}

/// Requests lost in a step.
#[derive(Debug)]
pub struct Losses {
    /// On connections kept alive.
    pub kept: Vec<Failed>,
    /// On new connections.
    pub new: Vec<Failed>,
    /// On connections kept alive that ended without a byte of an answer; asked again, and answered.
    pub retried: u64,
}

/// What there was so far on connections that clients never end, end after some requests, and after one.
pub type Tallies = [Tally; 3];

impl Losses {
    pub fn between([kept, few, new]: &Tallies, [kept_now, few_now, new_now]: &Tallies) -> Losses {
        let retried = kept_now.stale - kept.stale + few_now.stale - few.stale;
        let kept = [kept_now.since(kept), few_now.since(few)].concat();
        Losses { kept, new: new_now.since(new), retried }
    }

    /// How many were not answered.
    pub fn lost(&self) -> usize {
        self.kept.len() + self.new.len()
    }

    /// True if this is no more than must be lost.
    fn may_be(&self, step: Step, program: &Program) -> bool {
        let Losses { kept, new, retried } = self;
        let retried = usize::try_from(*retried).expect("not that many");
        let cut = |failed: &Failed| match &*failed.how {
            "reset" | "truncated" => true,
            "wrong" => program.error_on_kill.is_some() && failed.what.starts_with("500 "),
            _ => false,
        };
        match step.stopped() {
            // What was inside the killed worker, which is at most one request of each client.
            None => {
                kept.len() + retried <= KEEPALIVE_CLIENTS && new.len() <= CLIENTS && kept.iter().chain(new).all(cut)
            }
            // A client that never ends its connection finds it ended when the worker does: once with each worker.
            Some(stopped) => kept.is_empty() && new.is_empty() && retried <= KEEPALIVE_CLIENTS * stopped,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outcome {
    pub program: &'static Program,
    pub user: User,
    pub balance: Balance,
    /// Answers of each of two workers, and of each of four.
    pub split: [Vec<u64>; 2],
    pub steps: Vec<(Step, Losses)>,
    pub answered: u64,
    /// Time a reload took.
    pub reload: Duration,
    /// If it can run on demand: how long the client waited user woke it.
    pub wake_time: Option<Duration>,
}

impl Outcome {
    /// All that must not be.
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

/// The numbers of a split.
pub fn joined(split: &[u64]) -> String {
    split.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}
