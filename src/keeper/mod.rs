//! The keeper: the parent of God and of every worker. It owns what must survive God's death, and starts God again.
//!
//! ```text
//!  keeper ──starts, and starts again──► God ──starts──► workers
//!    │  ▲                                │                 │
//!    │  └───── subreaper: parent of every worker, also of those whose starter has died
//!    └── one table of open files, shared with God
//! ```
//!
//! ## What survives God
//!
//! God is made by `clone(CLONE_FILES)` ([`crate::os::process::clone_files`]): the keeper and God share one table of
//! open files. God's death, at whatever instruction, therefore closes nothing. Listeners, the workers' channels, log
//! pipes and connections that were accepted a moment ago stay open, under the numbers they had. Three places say what
//! they are:
//!
//! - The [`ledger`], a file in memory that God appends its state to. It names each kept file and gives its number.
//! - The [`shared_memory`], which the keeper and God have both mapped. It says which numbers are the fixed
//!   [slots](FdSlot), and for each accepted connection where on its way to a worker it is.
//! - A socket pair that holds the [`exits`] of workers which no God has taken yet.
//!
//! The next God takes all of it over ([`inherited`]) and goes on. While there is no God, connections wait in the
//! kernel's accept queues, output waits in the log pipes, and exits wait in the socket pair.
//!
//! Why no messages to store and fetch files, as with systemd's `FDSTORE`: a file would be lost between the call that
//! made it and the one that stored it, and each connection would cost two more system calls. A shared table has no such
//! gap.
//!
//! ## When something dies
//!
//! Every accident is handled in the same way: the keeper executes a program, which finds the open files and the number
//! of the shared memory's file, and starts a God.
//!
//! - **God dies.** The keeper starts the next one. It needs no new program for that.
//! - **Upgrade.** God ends with exit code [`UPGRADE`], and the keeper executes the new program, which is then on
//!   [probation](UpgradeProbation). If the new program's God dies before the probation is over, the keeper executes the
//!   old program again. If the new program dies before it has a God, the `guard` does that: a process of the old
//!   program that has the open files, too.
//! - **The keeper dies.** God notices, and executes its own program as the keeper.
//!
//! ## What the keeper does not do
//!
//! The keeper decides nothing about apps. It does not answer the system calls of programs under seccomp either: such a
//! call waits on a file in the shared table, and the next God answers it.
//!
//! There is one thing that the keeper does at God's request. It looks into a worker's process ([`crate::os::tracer`])
//! where the kernel refuses that to God, because the keeper is the worker's ancestor and God is not. The requests
//! travel on a socket pair that is made anew for each God, so no request of a dead God is left for the next one, and
//! both ends are always of the same version of the program. A keeper that replaced a dead one is no ancestor of the
//! workers that ran before. Where the kernel insists on that, those workers serve on, and sockets that they bind from
//! then on are not shared with other workers.

pub mod exits;
pub mod frames;
mod guard;
pub mod inherited;
pub mod ledger;
mod probation;
mod resume;
mod run;
pub mod shared_memory;

pub use frames::Records;
pub use guard::end_probation;
pub use inherited::{Inherited, Previous};
pub use ledger::Ledger;
pub use probation::UpgradeProbation;
pub use resume::{KeeperState, PERSONALITY, execute, resumed};
pub use run::{UPGRADE, run, tell_ready};
pub use shared_memory::{FdSlot, LAYOUT, Place, SharedMemory, Word};
