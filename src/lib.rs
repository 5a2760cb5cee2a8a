//! # pmr: a process manager with cluster mode
//!
//! A thin command line talks to a daemon over a Unix socket. In the daemon one task, *God*, owns all supervision
//! state; it forks the workers, holds the listening sockets their apps share, and passes accepted connections to them.
//!
//! ```text
//!  pmr (CLI) ──tarpc over rpc.sock──►  God  ──fork/exec──►  workers
//!    │                                  │ ▲                   ▲
//!    │ tails log files itself           │ │ connections       │ fd 3: IPC channel
//!    └─◄──events (NDJSON) pub.sock──────┘ └───────────────────┘
//! ```
//!
//! ## Deciding apart from doing
//!
//! [`supervisor`] is a value: it takes an input and the time and returns effects. It has no clock, no pids of its own,
//! no I/O and nothing to await, so tests live through many thousand random histories of it in seconds, no slow app can
//! hold up another, and its state can be written down after any input. [`daemon`] feeds it and carries the effects out.
//!
//! ## Layers
//!
//! ```text
//! spec (pure: what an app is)  ◄─ protocol (pure: what crosses the socket)  ◄─ supervisor (pure: God's mind)
//! os (leaf: safe small system-call wrappers)  ◄─ cluster, logs  ◄─ daemon (God task and shell)
//! cli ─► protocol, spec, os, logs, startup      never daemon, supervisor, cluster
//! demo: a story told with the command line's own client; its worker and its load serve the tests as well
//! ```
//!
//! `tests/layers.rs` keeps this so, together with the house rules on purity, `unsafe` and file size.

pub mod cli;
pub mod cluster;
pub mod daemon;
pub mod demo;
pub mod logs;
pub mod os;
pub mod paths;
pub mod protocol;
pub mod spec;
pub mod startup;
pub mod supervisor;
