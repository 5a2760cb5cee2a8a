//! What canaries write to standard error while they are observed, held against what the previous release writes.
//!
//! Some programs log all they do to standard error, so lines there are no fault as such. A canary that writes a multiple
//! of what the noisiest worker of the previous release does in the same time is none to go on with.

use serde::{Deserialize, Serialize};

use crate::protocol::Run;

/// So many lines are nothing.
const FEW: u32 = 10;
/// So many times what is usual is too much.
const TOO_MUCH: u32 = 3;

/// Lines written since the watch began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StderrCounts(Vec<(Run, u32)>);

impl StderrCounts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, run: Run, lines: u32) {
        match self.0.iter_mut().find(|(known, _)| *known == run) {
            Some((_, count)) => *count = count.saturating_add(lines),
            None => self.0.push((run, lines)),
        }
    }

    /// What is too much of a canary, in words. `is_new` tells the releases apart.
    pub(super) fn fault(&self, canary: Run, is_new: impl Fn(Run) -> bool) -> Option<String> {
        let (_, lines) = self.0.iter().find(|(run, _)| *run == canary)?;
        let usual = self.0.iter().filter(|(run, _)| !is_new(*run)).map(|(_, lines)| *lines).max().unwrap_or(0);
        (*lines > FEW && *lines > usual.saturating_mul(TOO_MUCH)).then(|| {
            format!(
                "wrote {lines} lines to standard error while it was observed; \
                 the previous release wrote {usual} in the same time"
            )
        })
    }
}
