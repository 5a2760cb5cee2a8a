//! Warnings for the operator about files in the home: the journal cannot be written, or the saved list differs from the
//! desired state.

use std::sync::PoisonError;

use super::desired::Fingerprints;
use super::dump::{KnownList, SavedList};
use super::journal::{Journal, JournalState};
use crate::protocol::{DaemonWarnings, Unwritten};
use crate::supervisor::Supervisor;

/// Owns the journal and compares the saved list with the desired state.
pub(crate) struct Warnings {
    journal: Journal,
    saved: KnownList,
    fingerprints: Fingerprints,
}

impl Warnings {
    /// `saved` is shared with the RPC handlers, which set it when a client saves.
    pub fn new(journal: Journal, saved: KnownList) -> Warnings {
        Warnings { journal, saved, fingerprints: Fingerprints::default() }
    }

    /// The warnings at this moment.
    pub fn now(&mut self, supervisor: &Supervisor) -> DaemonWarnings {
        let unwritten = match self.journal.state() {
            JournalState::Working => None,
            JournalState::Failing { error, since } => {
                Some(Unwritten { path: self.journal.path().to_owned(), error, since })
            }
        };
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // During a shutdown all goals are down: every saved list would differ.
        let saved = saved.filter(|_| !supervisor.is_closing());
        let differs = |saved: &SavedList| saved.fingerprint != self.fingerprints.of(supervisor);
        DaemonWarnings { unwritten, unsaved: saved.filter(differs).map(|saved| saved.at) }
    }
}
