//! Verbs that span processes and time. Each app has a queue of operations; each operation belongs to a ticket, or to
//! none where the supervisor itself decided on it. A client that disconnects loses the answer, never the operation.
//!
//! Operations run one after another, but for `stop` and `delete`: they begin at once and take their processes out of
//! whatever else was to be done to them. What depends on other apps may be held back: see `order`.

mod kind;
mod outcome;
mod progress;
mod queue;
mod reload;
mod state;
#[cfg(test)]
mod tests;

pub use kind::Kind;
pub use state::Operation;
