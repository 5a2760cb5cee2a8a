//! How a reload is to go, and how far it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stderr_counts::StderrCounts;
use crate::protocol::{Canary, Rollout, Run};
use crate::spec::value;
use crate::supervisor::id::ProcessId;
use crate::supervisor::moment::Moment;
use crate::supervisor::process::Promotion;

/// How a reload is to go, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Goes on whatever fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) force: bool,
    /// How many processes are replaced first, and how long their successors are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) canary: Option<Canary>,
    /// How long the first has to run before the others follow, where a process has nothing to prove readiness with.
    #[serde(default, with = "value::millis_option", skip_serializing_if = "Option::is_none")]
    pub(super) settling: Option<Duration>,
    /// The last run given before it began.
    #[serde(default)]
    pub(super) last_run: u64,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Moment>,
    #[serde(default)]
    pub(super) phase: Phase,
}

/// How far a reload is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Replacing one after another.
    #[default]
    Rolling,
    /// Replacing the first few and watching them.
    Canary {
        /// How many are not replaced yet.
        left: u32,
        /// Those that are ready.
        watched: Vec<(ProcessId, Run)>,
        /// When the watch is over, once all of them are ready.
        until: Option<Moment>,
        /// What is written to standard error in that time.
        #[serde(default, skip_serializing_if = "StderrCounts::is_empty")]
        errors: StderrCounts,
    },
    /// A successor failed: what has been replaced is brought back.
    RollingBack {
        /// False if the two releases cannot serve side by side.
        same_mode: bool,
        /// False if only the files of the app are others: there is no spec to go back to.
        changed: bool,
    },
}

impl Transaction {
    pub(crate) fn new(rollout: &Rollout) -> Transaction {
        Transaction { force: rollout.force, canary: rollout.canary, ..Transaction::default() }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Transaction::default()
    }

    /// `settling`: how long a process of this app has to run to be trusted, if it cannot prove anything.
    pub(crate) fn begin(&mut self, now: Moment, last_run: u64, members: usize, settling: Option<Duration>) {
        (self.since, self.last_run) = (Some(now), last_run);
        self.settling = settling.filter(|_| !self.force);
        let left = match self.canary {
            Some(canary) => canary.share.of(u32::try_from(members).unwrap_or(u32::MAX)),
            None if self.settling.is_some() => 1,
            None => return,
        };
        self.phase = Phase::Canary { left, watched: vec![], until: None, errors: StderrCounts::default() };
    }

    /// How long the canaries are watched.
    pub(super) fn watch(&self) -> Duration {
        self.canary.map(|canary| canary.duration).or(self.settling).unwrap_or_default()
    }

    /// True while canaries are watched that a client requested.
    pub(super) fn judges(&self) -> bool {
        self.canary.is_some() && self.deadline().is_some()
    }

    pub(crate) fn watches(&self, id: ProcessId) -> bool {
        self.watched().iter().any(|(watched, _)| *watched == id)
    }

    pub(crate) fn is_watching(&self) -> bool {
        !self.watched().is_empty()
    }

    pub(super) fn watched(&self) -> &[(ProcessId, Run)] {
        match &self.phase {
            Phase::Canary { watched, .. } => watched,
            Phase::Rolling | Phase::RollingBack { .. } => &[],
        }
    }

    /// Keeps watching only these.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&ProcessId) -> bool) {
        if let Phase::Canary { watched, .. } = &mut self.phase {
            watched.retain(|(id, _)| keep(id));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Canary { until, .. } => until,
            Phase::Rolling | Phase::RollingBack { .. } => None,
        }
    }

    /// True if one more may be replaced, which is then counted.
    pub(crate) fn may_go_on(&mut self) -> bool {
        match &mut self.phase {
            Phase::Canary { left: 0, .. } => false,
            Phase::Canary { left, .. } => {
                *left -= 1;
                true
            }
            Phase::Rolling | Phase::RollingBack { .. } => true,
        }
    }

    /// When the next successor takes over.
    pub(crate) fn promotion(&self) -> Promotion {
        match self.phase {
            Phase::Canary { .. } => Promotion::AfterCanary,
            Phase::Rolling if self.force => Promotion::Unconditional,
            Phase::Rolling | Phase::RollingBack { .. } => Promotion::WhenReady,
        }
    }

    /// False if it goes back from a cluster to none, or the reverse.
    pub(crate) fn returns_to_its_mode(&self) -> bool {
        !matches!(self.phase, Phase::RollingBack { same_mode: false, .. })
    }

    /// True while it brings processes back to another spec.
    pub(super) fn restores(&self) -> bool {
        matches!(self.phase, Phase::RollingBack { changed: true, .. })
    }

    /// True if it goes on whatever fails.
    pub(crate) fn is_forced(&self) -> bool {
        self.force
    }

    /// True while canaries are set off or watched.
    pub(crate) fn tries(&self) -> bool {
        matches!(self.phase, Phase::Canary { .. })
    }

    /// True if the run is of the release this brings in.
    pub(super) fn is_new(&self, run: Run) -> bool {
        run.0 > self.last_run
    }
}
