//! Real programs in many languages, unmodified, several of each on one port: what `examples/programs` holds.
//!
//! Each program lives through one story. Two workers, then four, get their share of connections, as exactly as the
//! balance promises. Then, under load on connections kept alive and on a new one for each request, the app is reloaded,
//! scaled to four workers and back, one worker is killed with -9, and God is: nothing may be refused, cut or left
//! hanging but what was inside the killed worker. Some are told it once more as programs that are given their socket; those
//! rest in the end, and the next client wakes them. `cargo test --test programs` tells it for a core of programs, as root
//! and as an ordinary user. All programs, five reloads each, as both, with a row of a table for each (half an hour on two
//! idle cores), after `.ci/programs all` has installed them:
//!
//! ```text
//! cargo test --test programs -- --ignored --nocapture
//! ```
//!
//! `PMR_PROGRAMS=gunicorn,nginx` picks the rows whose name holds one of the words, `PMR_TABLE=path` writes the table
//! there. A program that is not installed is told as `not here`, which fails the long test, and the short one in CI.

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
