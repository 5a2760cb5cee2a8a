//! The command line: parses, connects, asks, words the answer.

pub mod app_flags;
pub mod config_file;
pub mod resolve;
