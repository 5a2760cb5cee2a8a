//! Real programs in many languages, unmodified, several workers of each on one port: the programs of
//! `examples/programs`.
//!
//! Each program runs one scenario. Two workers, then four, get their share of connections, as exactly as the balance
//! promises. Then, under load on connections that are kept alive and on a new connection for each request, the app is
//! reloaded, scaled to four workers and back, one worker is killed with SIGKILL, and God is killed. No request may be
//! refused, cut or left hanging, except those inside the killed worker. Programs that support socket activation run the
//! scenario once more with inherited sockets: at the end they go idle, and the next client starts one.
//!
//! `cargo test --test programs` runs the scenario for a core of programs, as root and as an ordinary user. The long
//! test runs all programs with five reloads each, as both users, and prints one table row for each. It takes half an
//! hour on two idle cores, after `.ci/programs all` has installed the programs:
//!
//! ```text
//! cargo test --test programs -- --ignored --nocapture
//! ```
//!
//! `PMR_PROGRAMS=gunicorn,nginx` selects the rows whose name contains one of the words. `PMR_TABLE=path` writes the
//! table to that file. A program that is not installed is shown as `not here`. It fails the long test, and in CI the
//! short one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what the long test is for")]

mod balance;
mod catalog;
mod core;
#[allow(dead_code, reason = "shared with the tests of Node's frameworks, which use all of it")]
#[path = "../cluster/load.rs"]
mod load;
mod matrix;
mod outcome;
mod scenario;
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/support/mod.rs"]
mod support;
mod table;
mod toolchain;
