//! What an app is, as its owner declared it. Pure data: nothing here touches a file, a clock or a process.
//!
//! An [`AppSpec`] is complete and checked: paths are absolute, the interpreter is chosen, `max` has become a number.
//! It is made once at the edge (the command line resolves flags and config files into it), crosses the socket, is
//! written to disk, and is trusted from then on.
//!
//! Which keys exist, how they are spelled and what values they take stands in one table, [`keys`]; the ecosystem
//! file, the command line and a restart with changed options all go through it.

pub mod activation;
mod app;
pub mod confinement;
mod contradiction;
pub mod dependency;
pub mod ecosystem;
pub mod health;
pub mod interpreter;
pub mod keys;
pub mod log_paths;
pub mod mechanism;
pub mod on_reload_failure;
pub mod queue;
mod rules;
pub mod sharing;
pub mod signal;
pub mod target;
pub mod value;
mod warnings;

pub use activation::Activation;
#[cfg(test)]
pub(crate) use app::sample;
pub use app::{AppSpec, DEFAULT_INSTANCE_VAR, DEFAULT_NAMESPACE};
pub use confinement::Confinement;
pub use dependency::Dependencies;
pub use health::Health;
pub use mechanism::Mechanism;
pub use on_reload_failure::OnReloadFailure;
pub use queue::{QueueRule, Shed};
pub use rules::{Balance, Env, ExecMode, LogSpec, LogTarget, Program, Readiness, RestartRule, StopRule};
pub use sharing::{Share, Sharing};
