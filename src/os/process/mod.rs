//! Processes: starting, naming, signalling, watching and reaping them, and what this process is to the kernel.

pub mod clone_files;
pub mod credentials;
pub mod detach;
pub mod identity;
pub mod pidfd;
pub mod proc;
pub mod program;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod tree;
