//! Interception of `bind` and `listen`, from the system calls up: unmodified programs run under a watch, the test makes
//! their calls on duplicates of their sockets, several programs share a port, and each call has the result that it
//! would have without interception.
//!
//! Needs Linux 5.9, and a container that allows it. Where something is missing, a test prints what and passes.

mod balance;
mod calls;
#[path = "../deadline/mod.rs"]
mod deadline;
mod going;
mod host;
mod oddities;
#[path = "../ports/mod.rs"]
mod ports;
mod program;
mod user;
