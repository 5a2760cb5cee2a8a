//! The decisions of the daemon. PURE: no clock, no pids, no I/O, nothing to await.
//!
//! [`Supervisor::handle`] takes the time and an [`Input`] and returns the [`Effect`]s to carry out;
//! [`Supervisor::next_deadline`] says when to come back with [`Input::Tick`]. Timeouts go in as `now` and come out as
//! that one deadline, so there is no timer to cancel and none to forget.
//!
//! - `state`: all supervision state, and how one process in it is changed.
//! - `handle`: what follows from each input.
//! - `replacement`: processes that are unhealthy or over their memory limit.
//! - [`process`]: one process, goal × state.
//! - [`restart`]: after an exit, again, later, or give up.
//! - [`operation`]: verbs that span processes and time, one queue per app, and the tickets they answer.
//! - [`registry`]: apps, ids, instance numbers, what is written down.
//! - `requests`: from requests to operations.
//! - `order`: which app is started, reloaded and stopped before which.
//! - `idle`: which processes stop while no client connects, and which start again.
//! - `rotation`: which ready runs get no new connections.
//! - [`persist`]: all of it as records, written as it changes, read by the next daemon.
//!
//! Invariants, checked after every input of the simulation:
//! - every run spawned is answered for by exactly one process until its tree is gone;
//! - a goal other than `Up` launches nothing; a handled tick leaves no deadline in the past;
//! - an idle app starts on demand, one process at a time, and no restart is counted; a stop keeps it down;
//! - the listeners of an app are open while one of its processes runs or is idle, and closed once the whole app is
//!   down;
//! - every ready run is in rotation, except an unhealthy one while another of its app is healthy;
//! - a reload by itself never leaves fewer ready processes than there were;
//! - operations on one app queue, but `stop` and `delete` overtake; operations on different apps wait for each other
//!   only where one app depends on the other, and never in a circle; every ticket is answered exactly once;
//! - a supervisor read back from its records does what the one that wrote them would have done.

mod app;
mod handle;
#[cfg(test)]
mod harness;
mod id;
mod idle;
pub mod input;
mod moment;
pub mod operation;
mod order;
pub mod persist;
mod preview;
pub mod process;
pub mod registry;
mod replacement;
mod requests;
pub mod restart;
mod rotation;
#[cfg(test)]
mod simulation;
mod snapshot;
mod state;

pub use app::App;
pub use id::{AppId, ProcessId, Ticket};
pub use input::{Effect, Fault, Input, Proof, Request};
pub use moment::Moment;
pub use operation::{Kind, Operation};
pub use persist::{RecordKey, Unreadable};
pub use process::{Goal, Process, Serving, State, StopStage, StoppingRun};
pub use snapshot::{SavedApp, SavedProcess, Snapshot};
pub use state::Supervisor;
