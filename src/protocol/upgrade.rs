//! Going over to another program without stopping anything.

use serde::{Deserialize, Serialize};

use super::info::Exit;

/// A program that can go on with what the daemon has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// Version of its crate, `1.2.3`.
    pub version: String,
    /// How many processes it would go on with.
    pub runs: u32,
}

/// Where the last upgrade stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgraded {
    /// The program that answers has stood its trial.
    Done {
        /// From the end of the old daemon to the first answer of the new one, in milliseconds.
        gap_ms: u64,
        /// How many processes ran on.
        runs: u32,
    },
    /// The new program could not be executed; the old one goes on.
    NotExecuted,
    /// The new program's daemon died in its first seconds; the old program is back.
    Failed {
        /// How it ended, if anybody saw.
        exit: Option<Exit>,
    },
    /// This daemon came to be in another way.
    NotAsked,
}
