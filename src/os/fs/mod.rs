//! Open files and files on disk.

pub mod files;
pub mod replace;
