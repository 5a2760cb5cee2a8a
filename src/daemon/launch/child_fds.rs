//! The descriptors a process starts with beside its standard streams, and the variables with their numbers.
//!
//! Given sockets come first, since socket activation counts from descriptor 3; then the channels.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The first descriptor after the standard streams.
const FIRST: usize = 3;

/// Descriptors from 3 on, in order, and the variables that go with them.
#[derive(Debug, Default)]
pub(crate) struct ChildFds {
    files: Vec<OwnedFd>,
    variables: Vec<(&'static str, String)>,
}

impl ChildFds {
    /// Adds a file. Returns the descriptor number it will have in the process.
    pub fn give(&mut self, file: OwnedFd) -> usize {
        self.files.push(file);
        FIRST + self.files.len() - 1
    }

    /// Sets a variable of the process's environment.
    pub fn set_variable(&mut self, variable: &'static str, value: impl Into<String>) {
        self.variables.push((variable, value.into()));
    }

    /// Name and value of each variable set so far.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// All descriptors from 0 on.
    pub fn descriptors<'a>(&'a self, standard: [BorrowedFd<'a>; FIRST]) -> Vec<BorrowedFd<'a>> {
        standard.into_iter().chain(self.files.iter().map(AsFd::as_fd)).collect()
    }
}
