//! Interception of every `bind` and `listen` of a program and its descendants, with an answer in the kernel's place.
//!
//! It uses seccomp's user notification. The program is put under a filter before it starts (see
//! [`crate::os::process::spawn`]). From then on a thread that makes such a call sleeps until the [`BindWatch`] has
//! answered. No other call is intercepted, so the data of connections is not touched. Sources: `seccomp_unotify(2)`,
//! the kernel's `Documentation/userspace-api/seccomp_filter.rst`.
//!
//! ## What to know
//!
//! - A program cannot leave its filter. But the filter is no protection against a hostile program: `io_uring`, or calls
//!   of an instruction set that the filter does not know, get around it.
//! - While no process has a copy of the watch open, such a call fails with `ENOSYS`. While a process has one but does
//!   not answer, the call waits. So the watch must be kept where it outlives the daemon.
//! - A notification that a dead process received and did not answer is not delivered again. The next God answers it by
//!   its [`RequestId`], which must therefore be recorded before anything else is done; see [`recovery`].
//! - After [`Answer::Continue`] the kernel executes the call with the arguments as they are by then. Another thread may
//!   have changed them, so no decision may depend on what was read.
//! - A process is under one watch at most. Other supervisors that use user notification (container runtimes without
//!   root, another pmr) cannot run below this one.

pub mod ability;
mod bind_watch;
mod call;
mod filter;
mod handover;
mod i386;
pub mod recovery;
#[cfg(test)]
mod tests;

pub use bind_watch::BindWatch;
pub use call::{Answer, Call, Delivery, Request, RequestId};
pub(crate) use handover::install_and_leave;
pub use handover::{Pending, handover};
