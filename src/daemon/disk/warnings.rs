//! What an operator should know of the files in the home: that the journal cannot be written, or that the saved list is
//! no longer what runs.

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
            JournalState::Whole => None,
            JournalState::Broken { error, since } => {
                Some(Unwritten { path: self.journal.path().to_owned(), error, since })
            }
        };
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // During a shutdown all goals are down, which no save is meant to match.
        let saved = saved.filter(|_| !supervisor.is_closing());
        let differs = |saved: &SavedList| saved.fingerprint != self.fingerprints.of(supervisor);
        DaemonWarnings { unwritten, unsaved: saved.filter(differs).map(|saved| saved.at) }
    }
}
