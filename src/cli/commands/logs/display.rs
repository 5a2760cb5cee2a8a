//! Shows log files: their last lines, then the lines that are appended. [`run`](super::run) chooses the files, at the
//! start and again when processes are started.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Zoned;

use super::args::{Args, ProcessLog, Tail};
use super::printer::Printer;
use crate::cli::ui::Screen;
use crate::logs::format::{Layout, Stream};
use crate::logs::tail::{Ends, Follower, Start, WakeReason};

/// An unfinished line (a prompt) is shown when no more bytes came for this time.
const UNFINISHED_DELAY: Duration = Duration::from_millis(200);

/// The files that are shown.
pub struct Display<'a> {
    args: &'a Args,
    follower: Follower,
    /// Its tails have the same numbers as the files of the follower.
    printer: Printer<'a>,
    numbers: HashMap<PathBuf, usize>,
    /// Standard output: the command ends when its reader hangs up, even if there is nothing to print.
    output: Option<OwnedFd>,
    shown: bool,
}

impl<'a> Display<'a> {
    /// Shows the last lines of the files, and with `--nostream` also the beginnings of unfinished ones.
    ///
    /// # Errors
    /// Files that exist and cannot be read or watched, and failing output.
    pub fn open(args: &'a Args, files: Vec<ProcessLog>, mut screen: Screen<'a>) -> io::Result<Display<'a>> {
        let (follower, output) = (Follower::new()?, screen.fd.take());
        let printer = Printer::new(args.format(screen.colour), screen);
        let mut view = Display { args, follower, printer, numbers: HashMap::new(), output, shown: false };
        let mut tails = args.tails(files);
        let written =
            |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // The daemon's log first, then the files that were written to longest ago, so that the newest lines come last.
        tails.sort_by_cached_key(|tail| (tail.source.stream != Stream::Daemon, written(&tail.path)));
        for tail in tails {
            view.add(tail, Start::LastLines(args.history()))?;
        }
        view.widen_labels();
        if args.history() > 0 {
            (0..view.printer.tails.len()).try_for_each(|number| view.show_history(number))?;
        }
        Ok(view)
    }

    /// True if last lines were to be shown and there were none.
    #[must_use]
    pub fn lacks_lines(&self) -> bool {
        !self.shown && self.args.history() > 0
    }

    /// Makes [`Display::show_new`] return also when a socket at `path` may accept connections.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn wake_for(&mut self, path: &Path) -> io::Result<()> {
        self.follower.wake_for(path)
    }

    /// Also shows these files, from their recorded ends on. A file that is shown already gets the new label.
    ///
    /// # Errors
    /// Files that exist and cannot be read or watched.
    pub fn add_files(&mut self, files: Vec<ProcessLog>, ends: &Ends) -> io::Result<()> {
        for tail in self.args.tails(files) {
            match self.numbers.get(&tail.path) {
                Some(number) => self.printer.tails[*number] = tail,
                None => self.add(tail, Start::Since(ends))?,
            }
        }
        self.widen_labels();
        Ok(())
    }

    /// Shows new lines. If there are no more, sleeps until there may be more, or `news` can be read.
    ///
    /// # Errors
    /// Those of the files and of the output.
    pub fn show_new(&mut self, news: Option<BorrowedFd<'_>>) -> io::Result<WakeReason> {
        let Display { follower, printer, output, .. } = self;
        // One clock reading for each wake-up. It is the time at which the line was read, not when the app wrote it.
        let now = Zoned::now();
        if follower.read(&mut |number, piece| printer.piece(number, piece, Some(&now)))? {
            return Ok(WakeReason::Changed);
        }
        printer.flush()?;
        let limit = (printer.format.layout != Layout::Json && follower.holds_back()).then_some(UNFINISHED_DELAY);
        let woken = follower.wait(news, output.as_ref().map(AsFd::as_fd), limit)?;
        if woken == WakeReason::TimedOut {
            follower.release(&mut |number, piece| printer.piece(number, piece, Some(&now)))?;
        }
        Ok(woken)
    }

    fn add(&mut self, tail: Tail, start: Start<'_>) -> io::Result<()> {
        let number = self.follower.add(&tail.path, start).map_err(|error| with_path(&tail.path, &error))?;
        self.numbers.insert(tail.path.clone(), number);
        self.printer.tails.push(tail);
        Ok(())
    }

    fn widen_labels(&mut self) {
        if let Layout::Labelled { width } = &mut self.printer.format.layout {
            let widths = self.printer.tails.iter().map(|tail| tail.source.label().chars().count());
            *width = widths.max().unwrap_or(0).max(*width);
        }
    }

    /// The last lines of a file, under a heading if there are any.
    fn show_history(&mut self, number: usize) -> io::Result<()> {
        let Display { args, follower, printer, shown, .. } = self;
        let labelled = matches!(printer.format.layout, Layout::Labelled { .. });
        let heading = format!("{} last {} lines:", printer.tails[number].path.display(), args.history());
        let mut some = false;
        let mut show = |piece: crate::logs::split::Piece<'_>| {
            if !std::mem::replace(&mut some, true) && labelled {
                printer.line(&heading);
            }
            printer.piece(number, piece, None)
        };
        follower.catch_up(number, &mut show)?;
        if args.nostream {
            follower.finish(number, &mut show)?;
        }
        if some && labelled {
            printer.line("");
        }
        *shown |= some;
        printer.flush()
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
