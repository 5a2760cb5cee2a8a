//! What the daemon keeps on disk: journal, saved list, history, pid files, its own log.

pub mod desired;
pub mod dump;
pub(crate) mod history;
pub(crate) mod home_dir;
pub mod journal;
pub(crate) mod log;
pub(crate) mod pid_files;
pub(crate) mod rotate;
pub(crate) mod warnings;
