//! The command line: parses, connects, asks, words the answer.

pub mod app_flags;
pub mod commands;
pub mod config_file;
pub mod resolve;
