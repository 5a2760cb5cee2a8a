//! Safe, small wrappers around system calls. A leaf: it knows nothing of pmr, and it is the only place with `unsafe`.
#![allow(unsafe_code)]

pub mod detach;
