//! End-to-end tests of the real binary: daemon, commands, apps and files, as a user meets them.
//!
//! One module for each scenario or command. Each test has a scratch home of its own, waits for conditions and never for
//! time, and leaves no process behind (see [`support::home`]). Well-behaved small apps are those of `examples/`;
//! misbehaving ones are in `tests/e2e/apps/`.

mod activation;
mod autosave;
mod change;
mod channel;
mod config;
mod confine;
mod crash;
mod daemon;
mod dependencies;
mod faults;
mod follow;
mod health;
mod history;
mod intercept;
mod limits;
#[allow(dead_code, reason = "shared with the tests of real Node apps, which use all of it")]
#[path = "../cluster/load.rs"]
mod load;
mod logs;
mod operation;
mod persist;
mod queue_timeout;
mod reload;
mod show;
mod signals;
mod sockets;
mod start;
mod stop;
mod supervise;
mod support;
mod version;
