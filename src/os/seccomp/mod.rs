//! Being told of every `bind` and `listen` of a program and its descendants, and answering in the kernel's place.
//!
//! Seccomp's user notification: the program is put under a filter before it starts (see [`crate::os::process::spawn`]);
//! from then on its thread sleeps in such a call until the [`BindWatch`] has answered. No other call is touched, so
//! neither is a connection's data. Sources: `seccomp_unotify(2)`, the kernel's
//! `Documentation/userspace-api/seccomp_filter.rst`.
//!
//! ## What one has to know
//!
//! - A program cannot leave its filter. This is no wall against a hostile one: it can get around by `io_uring`, or by
//!   calls of an instruction set that the filter does not know.
//! - While nobody has a copy of the watch open, such a call fails with `ENOSYS`. While somebody has, but does not
//!   answer, it waits: the watch is to be kept where it outlives us.
//! - A notification that was received and not answered by one who died is not delivered again. Whoever comes next
//!   answers it by its [`RequestId`], which therefore is to be written down before anything else; see [`recovery`].
//! - What is answered with [`Answer::Continue`] the kernel does itself with what the arguments are by then, which
//!   another thread may have changed: nothing may be concluded from what we read.
//! - One watch at most is above a process: under ours, other supervisors that use this (container runtimes without
//!   root, ourselves) cannot.

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
