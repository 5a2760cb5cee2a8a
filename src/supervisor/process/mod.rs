//! One supervised process: goal × state, and its transitions.
//!
//! ```text
//!            launch              ready                stop                 gone
//!  Stopped ─────────► Launching ───────► Online ───────────► Stopping ───────────► Stopped │ Launching │ (removed)
//!                      │  ▲  │ ▲           │                  (by its goal)
//!        exit, too often  │  │ └───────────┘ reload: Launching with an `old` that serves on
//!                      ▼  │  ▼ exit
//!                  Errored  Waiting
//!
//!          no client connects              gone              a client connects
//!  Online ───────────────────► Stopping ───────► Idle ──────────────────────► Launching
//! ```
//!
//! A restart is no state: it is `Stopping` with goal `Up`. A reload is no state: it is `Launching` with an `old`. Runs
//! replaced by a reload are stopping in `retiring` until the last process of their tree is gone. A canary is
//! ready and in state `Canary` beside its predecessor, which serves on until the canary has been judged.

mod events;
mod exit_policy;
mod health;
mod health_state;
mod idle;
mod listen_addresses;
mod promotion;
mod replace_backoff;
mod state;
mod stopping_run;
mod successor;
#[cfg(test)]
mod tests;
mod transition;
mod verbs;

pub use health_state::HealthState;
pub use listen_addresses::ListenAddresses;
pub use promotion::Promotion;
pub use replace_backoff::ReplaceBackoff;
pub use state::{Goal, Process, Serving, State};
pub use stopping_run::{StopStage, StoppingRun};
pub use transition::Transition;
