//! The command line: parses, connects, asks, words the answer.

pub mod commands;
