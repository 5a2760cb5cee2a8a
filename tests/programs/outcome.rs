//! What a story came to: a row of the table, and what in it must not be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::balance::Balance;
use crate::catalog::Program;
use crate::load::{Failed, Tally};
use crate::story::{CLIENTS, KEEPERS, Who};

/// What was done under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many reloads.
    Reload(usize),
    /// From two workers to four and back.
    Scale,
    KillWorker,
    KillGod,
}

/// Requests lost in a step.
#[derive(Debug)]
pub struct Losses {
    /// On connections kept alive.
    pub kept: Vec<Failed>,
    /// On new connections.
    pub new: Vec<Failed>,
    /// On connections kept alive that ended without a byte of an answer; asked again, and answered.
    pub again: u64,
}

/// What there was so far on connections that clients never end, end after some requests, and after one.
pub type Tallies = [Tally; 3];

impl Losses {
    pub fn between([kept, few, new]: &Tallies, [kept_now, few_now, new_now]: &Tallies) -> Losses {
        let again = kept_now.stale - kept.stale + few_now.stale - few.stale;
        let kept = [kept_now.since(kept), few_now.since(few)].concat();
        Losses { kept, new: new_now.since(new), again }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outcome {
    pub program: &'static Program,
    pub who: Who,
    pub balance: Balance,
    /// Answers of each of two workers, and of each of four.
    pub split: [Vec<u64>; 2],
    pub steps: Vec<(Step, Losses)>,
    pub answered: u64,
    /// Time a reload took.
    pub reload: Duration,
}

impl Outcome {
    /// All that must not be.
    pub fn faults(&self) -> Vec<String> {
        let splits = self.split.iter().filter_map(|split| self.balance.check(split).err());
        splits.chain(self.steps.iter().filter_map(|(step, losses)| self.fault(*step, losses))).collect()
    }

    fn fault(&self, step: Step, losses: &Losses) -> Option<String> {
        let Losses { kept, new, again } = losses;
        let stops = match step {
            Step::Reload(times) => 2 * times,
            Step::Scale => 2,
            Step::KillWorker => 1,
            Step::KillGod => 0,
        };
        let allowed = self.program.allowance.map_or(0, |allowance| allowance.lost_per_stop * stops);
        let fine = match step {
            // What was inside the killed worker, which is at most one request of each client.
            Step::KillWorker => {
                let cut = |failed: &Failed| failed.how == "reset" || failed.how == "truncated";
                let inside = kept.len() + usize::try_from(*again).expect("not that many") <= KEEPERS;
                inside && new.len() <= CLIENTS && kept.iter().chain(new).all(cut)
            }
            // A client that never ends its connection finds it ended when the worker does: once with each worker.
            Step::Reload(_) | Step::Scale | Step::KillGod => {
                kept.is_empty() && new.len() <= allowed && *again <= (KEEPERS * stops) as u64
            }
        };
        (!fine).then(|| format!("{step:?}: {} on new connections, {} on others: {losses:?}", new.len(), kept.len()))
    }
}

pub const HEAD: &str = "\
| program | as | connections go | over 2 | over 4 | lost by reloads | by scale 2→4→2 | by kill -9 of a worker | by kill -9 of God | answered | a reload |
|---|---|---|---|---|---|---|---|---|---|---|";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.who {
            Who::Self_ => "root",
            Who::Nobody => "user",
        };
        write!(f, "| {} | {who} | {} ", self.program.name, self.balance)?;
        for split in &self.split {
            let split: Vec<String> = split.iter().map(ToString::to_string).collect();
            write!(f, "| {} ", split.join("/"))?;
        }
        for (_, losses) in &self.steps {
            write!(f, "| {losses} ")?;
        }
        write!(f, "| {} | {:.1} s |", self.answered, self.reload.as_secs_f32())
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
        if self.again > 0 {
            words.push(format!("{} asked again", self.again));
        }
        f.write_str(&words.join(", "))
    }
}
