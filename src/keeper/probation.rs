//! Where an upgrade of the daemon stands, as the shared memory holds it for the keeper and every God.

use super::shared_memory::{SharedMemory, Word};

/// The state of the last upgrade. The keeper writes it; God reads it and ends it ([`super::end_probation`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpgradeProbation {
    /// No upgrade was asked for, or the last one is over.
    #[default]
    None,
    /// The new program runs. If its God dies now, the keeper executes the old program again.
    Running,
    /// The new program could not be executed; the old one goes on.
    NotExecuted,
    /// The new program's God or its keeper died, and the old program is back.
    Failed,
}

impl UpgradeProbation {
    /// Reads the state from [`Word::Upgrade`]. An unknown number counts as no upgrade.
    #[must_use]
    pub fn read(shared_memory: &SharedMemory) -> UpgradeProbation {
        match shared_memory.get(Word::Upgrade) {
            1 => UpgradeProbation::Running,
            2 => UpgradeProbation::NotExecuted,
            3 => UpgradeProbation::Failed,
            _ => UpgradeProbation::None,
        }
    }

    /// Writes the state to [`Word::Upgrade`].
    pub fn write(self, shared_memory: &SharedMemory) {
        let word = match self {
            UpgradeProbation::None => 0,
            UpgradeProbation::Running => 1,
            UpgradeProbation::NotExecuted => 2,
            UpgradeProbation::Failed => 3,
        };
        shared_memory.set(Word::Upgrade, word);
    }
}
