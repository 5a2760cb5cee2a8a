//! What inspects an app's output line by line while it is moved: the search for a line, or the counter of lines.

use super::pipe::{Pipe, Ready};
use super::{LineCounter, LineSearch};

/// Inspects whole lines of a pipe before they are moved to the file.
#[derive(Clone, Copy)]
pub(super) enum LineInspector<'a> {
    /// Searches for a line that matches.
    Search(&'a LineSearch),
    /// Counts lines.
    Counter(&'a LineCounter),
}

impl LineInspector<'_> {
    /// Inspects the lines in the pipe. Returns how many bytes may be moved: those of whole lines only.
    pub(super) fn inspect(self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        match self {
            LineInspector::Search(search) => search.search(pipe),
            LineInspector::Counter(counter) => counter.count(pipe),
        }
    }
}
