//! Real Node apps from the npm registry, unmodified, clustered by the real binary: what `examples/node` holds.
//!
//! Each app runs with four workers and goes through one scenario: idle workers get the same number of connections; a
//! worker killed with -9 costs at most the requests inside it and is replaced; five reloads under load, on connections
//! kept alive and on a new one for each request, cost nothing. `cargo test --test cluster` runs it for each framework
//! on the Node at hand and for a few of them on the Node versions 18, 22 and 24 that npm packages ship. All on all,
//! with a row of a table for each (a quarter of an hour on two idle cores):
//!
//! ```text
//! cargo test --test cluster -- --ignored --nocapture
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what the long test is for")]

mod frameworks;
mod load;
mod packages;
mod proof;
mod scenario;
mod sticky;
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/support/mod.rs"]
mod support;
mod versions;
