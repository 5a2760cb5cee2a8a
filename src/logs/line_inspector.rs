//! The two that look at an app's output line by line while it is moved: one waits for a line, the other counts lines.

use super::pipe::{Pipe, Ready};
use super::{AwaitedLine, LineCounter};

/// What looks at whole lines of a pipe before they are moved to the file.
#[derive(Clone, Copy)]
pub(super) enum LineInspector<'a> {
    /// Waits for a line that matches.
    Awaited(&'a AwaitedLine),
    /// Counts lines.
    Counter(&'a LineCounter),
}

impl LineInspector<'_> {
    /// Looks at the lines in the pipe. The answer says how many bytes may be moved: those of whole lines only.
    pub(super) fn at(self, pipe: &Pipe) -> rustix::io::Result<Ready> {
        match self {
            LineInspector::Awaited(line) => line.look(pipe),
            LineInspector::Counter(counter) => counter.look(pipe),
        }
    }
}
