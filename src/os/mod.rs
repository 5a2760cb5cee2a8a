//! Safe, small wrappers around system calls. A leaf: it knows nothing of pmr, and it is the only place with `unsafe`.
#![allow(unsafe_code)]

pub mod address;
pub mod cgroup;
pub mod clock;
pub mod connection;
pub mod datagram;
pub mod detach;
pub mod diag;
#[cfg(test)]
pub mod eventually;
pub mod fdpass;
pub mod files;
pub mod identity;
pub mod killpoint;
pub mod pidfd;
#[cfg(test)]
#[path = "../../tests/ports/mod.rs"]
pub mod ports;
pub mod proc;
pub mod program;
pub mod reap;
pub mod replace;
pub mod reuseport;
pub mod seccomp;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod threads;
pub mod tracer;
pub mod tree;
pub mod twin;

/// Packets with open files, which the worker's end of a channel needs as well.
pub use pmr_worker::os::packets;
