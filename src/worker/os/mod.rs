//! Sockets that carry open files: safe, small wrappers around system calls, for both ends of a channel. Besides `os` of
//! pmr this is the only place with `unsafe`.
#![allow(unsafe_code)]

#[cfg(test)]
#[path = "../../os/eventually.rs"]
mod eventually;
pub mod packets;
pub mod rights;
