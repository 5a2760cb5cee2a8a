//! One operation: its verb, its processes, and how far it is.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::reload::transaction::Transaction;
use crate::protocol::Rollout;
use crate::spec::AppSpec;
use crate::supervisor::id::{ProcessId, Ticket};
use crate::supervisor::moment::Moment;

/// One verb on some processes of one app. Its record leaves out the ticket, whose client is gone when it is read, and
/// the specs, which stand with the app's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Operation {
    #[serde(skip)]
    pub(crate) ticket: Option<Ticket>,
    pub(crate) kind: Kind,
    /// Its place in the order of all requests: it never waits for a later place. `None` for an operation of the
    /// supervisor itself, which waits for no other app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<u64>,
    /// The first place of the request that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<u64>,
    /// Dependencies that it does not wait for, and does not start.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) without: BTreeSet<String>,
    /// Why it does not begin although its dependencies are met; set when the reload of one of them failed.
    #[serde(default, rename = "spared", skip_serializing_if = "Option::is_none")]
    pub(crate) skip_reason: Option<String>,
    /// True if it did not reach what was requested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
    /// What it waits for, as last published; `None` if it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<String>,
    /// Not touched yet, in order.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) pending: VecDeque<ProcessId>,
    /// Being worked on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) active: Vec<ProcessId>,
    /// How many may be active at once.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub(crate) parallel: usize,
    /// The spec that takes effect when it begins.
    #[serde(skip)]
    pub(crate) spec: Option<Arc<AppSpec>>,
    /// The spec before that, to return to if a reload fails.
    #[serde(skip)]
    pub(crate) previous: Option<Arc<AppSpec>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) begun: bool,
    /// How many processes the app is to have when all this is done; of those that are too many none is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    /// How a reload is to go, and how far it is.
    #[serde(default, skip_serializing_if = "Transaction::is_default")]
    pub(crate) transaction: Transaction,
}

fn all() -> usize {
    usize::MAX
}

fn is_all(parallel: &usize) -> bool {
    *parallel == all()
}

impl Operation {
    /// An operation that has not begun.
    #[must_use]
    pub fn new(ticket: Option<Ticket>, kind: Kind, members: Vec<ProcessId>, parallel: usize) -> Operation {
        let pending = VecDeque::from(members);
        let parallel = parallel.max(1);
        Operation {
            ticket,
            kind,
            place: None,
            request: None,
            without: BTreeSet::new(),
            skip_reason: None,
            failed: false,
            held: None,
            pending,
            active: vec![],
            parallel,
            spec: None,
            previous: None,
            begun: false,
            count: None,
            transaction: Transaction::default(),
        }
    }

    /// A reload with these options.
    #[must_use]
    pub fn reload(ticket: Option<Ticket>, members: Vec<ProcessId>, rollout: &Rollout) -> Operation {
        let operation = Operation::new(ticket, Kind::Reload, members, rollout.parallel as usize);
        Operation { transaction: Transaction::new(rollout), ..operation }
    }

    /// The same, and in the end the app has so many processes.
    #[must_use]
    pub fn with_count(self, count: u32) -> Operation {
        Operation { count: Some(count), ..self }
    }

    /// The same with a spec that takes effect when it begins.
    #[must_use]
    pub fn with_spec(self, spec: Option<AppSpec>) -> Operation {
        Operation { spec: spec.map(Arc::new), ..self }
    }

    /// True if the process is pending, active or watched in it.
    pub(crate) fn concerns(&self, id: ProcessId) -> bool {
        self.pending.contains(&id) || self.active.contains(&id) || self.transaction.watches(id)
    }

    /// True if it has specs to put into effect, or to return to.
    pub(crate) fn has_specs(&self) -> bool {
        self.spec.is_some() || self.previous.is_some()
    }

    /// Whether it is going to start or to stop the process; `None` if the process is not pending.
    #[must_use]
    pub fn wish(&self, id: ProcessId) -> Option<bool> {
        self.pending.contains(&id).then_some(!self.kind.overtakes())
    }

    /// True if the count of processes will be another when it is over.
    pub(crate) fn changes_count(&self) -> bool {
        self.count.is_some() || (matches!(self.kind, Kind::Scale(_)) && !self.begun)
    }

    /// True if it is being worked on and not one of those that overtake.
    #[cfg(test)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.begun && !self.is_over() && !self.kind.overtakes()
    }

    pub(crate) fn is_over(&self) -> bool {
        let idle = self.pending.is_empty() && self.active.is_empty() && !self.transaction.is_watching();
        self.begun && idle && self.count.is_none()
    }

    /// When it has something to do of its own.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.transaction.deadline()
    }

    /// The next process to be worked on, if one may be now.
    pub(crate) fn next(&mut self) -> Option<ProcessId> {
        if self.active.len() >= self.parallel || !self.transaction.may_go_on() {
            return None;
        }
        self.pending.pop_front()
    }
}
