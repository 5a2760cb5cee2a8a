//! The declared settings of an app. PURE: nothing here touches a file, a clock or a process.
//!
//! An [`AppSpec`] is complete and checked: paths are absolute, the interpreter is chosen, `max` is a number. The
//! command line resolves flags and config files into it. It is then sent to the daemon, written to disk, and not
//! checked again.
//!
//! The keys, their spellings and their values stand in one table, [`keys`], which is used by the ecosystem file, the
//! command line and a restart with changed options.

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
