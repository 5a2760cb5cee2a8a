//! Programs that know nothing of it, watched from their start: their sockets are bound and listen by our hands, several
//! of them share a port, and what each of them does with its sockets is what it would have seen without us.
//!
//! Needs Linux 5.9 and a container that does not forbid it; where something is missing, a test says what and passes.

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
