//! What crosses the sockets: the RPC trait, its data, and the events. Pure types; no I/O.
//!
//! Data crosses, words do not: the command line words what it gets. The one exception is [`Refusal`], whose `Display`
//! is the sentence for the user, so that every client prints the same.
//!
//! Handlers of the daemon only wait: work belongs to the supervisor and goes on when a client hangs up or its deadline
//! passes (tarpc cancels the handler in both cases).

pub mod action;
pub mod event;
pub mod info;
pub mod notify;
pub mod refusal;
pub mod rollout;
pub mod upgrade;
pub mod wire;

pub use action::{Action, Changes, Launch, Scale};
pub use event::{Event, EventKind};
pub use info::{
    DaemonWarnings, Described, Description, Exit, Hello, ListenerInfo, ProcessInfo, Report, ReportLine, Saved, Stage,
    Status, Step, UnderWay, Unwritten, Verdict,
};
/// pmr's own worker protocol; it lives with the worker's end of it.
pub use pmr_worker::protocol as channel;
pub use refusal::Refusal;
pub use rollout::{Canary, Rollout, Share};
pub use upgrade::{Successor, Upgraded};

use std::path::PathBuf;

use crate::spec::AppSpec;
use crate::spec::target::Selector;

/// Version of this crate, compared between command line and daemon.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The daemon as its clients see it.
#[tarpc::service]
pub trait Daemon {
    /// Identifies the daemon: version, pids, home. Also the answer to `ping`.
    async fn hello() -> Hello;
    /// Bring these apps up: new ones are started, known ones (by namespace and name) take the new spec. Returns when
    /// each process is ready, or failed.
    async fn launch(apps: Vec<AppSpec>, how: Launch) -> Result<Report, Refusal>;
    /// Do something to the processes the selectors name. Returns when it is done.
    async fn act(action: Action, target: Vec<Selector>) -> Result<Report, Refusal>;
    /// All processes, by id, without their environments.
    async fn list() -> Vec<ProcessInfo>;
    /// Everything known of the processes the selectors name. Environments are included as they are.
    async fn describe(target: Vec<Selector>) -> Result<Described, Refusal>;
    /// Write the process list to disk. An empty list is refused unless forced.
    async fn save(force: bool) -> Result<Saved, Refusal>;
    /// Start what was saved and is not here yet.
    async fn resurrect() -> Result<Report, Refusal>;
    /// Hand everything over to this program, if it can go on with it: the answer comes just before. Only find out
    /// whether it can if `check`.
    async fn upgrade(program: PathBuf, check: bool) -> Result<Successor, Refusal>;
    /// What came of the last upgrade. The answer comes when the trial of the new program is over.
    async fn upgraded() -> Upgraded;
    /// Stop every app, then end the daemon. The answer comes when all have stopped.
    async fn shut_down() -> Report;
}

/// One life of one process: a number never used twice by a daemon. Exits, readiness and samples are reported by run, so
/// late news about the dead cannot hurt the living.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Run(pub u64);
