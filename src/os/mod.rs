//! Safe, small wrappers around system calls. A leaf: it knows nothing of pmr, and it is the only place with `unsafe`.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod clock;
#[cfg(test)]
pub mod eventually;
pub mod fs;
pub mod killpoint;
pub mod net;
#[cfg(test)]
#[path = "../../tests/ports/mod.rs"]
pub mod ports;
pub mod process;
pub mod seccomp;
pub mod shared_memory;
pub mod thread_pool;
pub mod tracer;
