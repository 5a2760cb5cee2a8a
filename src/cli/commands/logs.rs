//! `pmr logs`: the last lines of log files, then what comes.
//!
//! Reads the files itself; whose they are it is told by [`log_files`](super::log_files), at the start and again when
//! processes come.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Zoned;

use super::super::ui::Screen;
use crate::logs::format::{Format, Layout, Speaker, Stream};
use crate::logs::tail::{Ends, Follower, Start, Woken};
use crate::logs::time_format::{self, TimeFormat};

mod printer;

use printer::Printer;

/// Lines shown of each file before what comes, unless told otherwise.
const DEFAULT_LINES: usize = 15;
/// Narrowest label, so that the lines of most apps stand below each other.
const LABEL_WIDTH: usize = 10;
/// An unfinished line (a prompt) is shown when nothing came for so long.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the user asked for.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct LogsArgs {
    /// Ids, names, namespaces, /regular expressions/ or `all` [default: all, and the daemon's own log]
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Last lines to show of each file [default: 15; none with --json unless --nostream]
    #[arg(long, value_name = "N")]
    pub lines: Option<usize>,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only standard output
    #[arg(long)]
    pub out: bool,
    /// The lines alone, without labels and headings; those of standard error go to standard error
    #[arg(long)]
    pub raw: bool,
    /// One JSON object for each line
    #[arg(long, conflicts_with_all = ["raw", "highlight"])]
    pub json: bool,
    /// Put the time before each new line
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = time_format::DEFAULT)]
    pub timestamp: Option<String>,
    /// Show what is there and end
    #[arg(long)]
    pub nostream: bool,
    /// Make TEXT stand out
    #[arg(long, value_name = "TEXT")]
    pub highlight: Option<String>,
}

/// A file to read and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// Id of the process; `None` for the daemon.
    pub process_id: Option<u32>,
    /// Name of the app, `PMR` for the daemon.
    pub name: String,
    /// Which output.
    pub stream: Stream,
    /// The file. It need not exist yet.
    pub path: PathBuf,
}

/// Files on the screen.
pub struct View<'a> {
    args: &'a LogsArgs,
    follower: Follower,
    /// Its tails have the numbers that the follower gave their files.
    printer: Printer<'a>,
    numbers: HashMap<PathBuf, usize>,
    /// Our output: when its reader goes away, so do we, even if nothing is said.
    output: Option<OwnedFd>,
    shown: bool,
}

impl<'a> View<'a> {
    /// Shows the last lines of the files, and with `--nostream` also the beginnings of unfinished ones.
    ///
    /// # Errors
    /// Files that exist and cannot be read or watched, and failing output.
    pub fn open(args: &'a LogsArgs, files: Vec<LogSource>, mut screen: Screen<'a>) -> io::Result<View<'a>> {
        let (follower, output) = (Follower::new()?, screen.fd.take());
        let printer = Printer::new(args.format(screen.colour), screen);
        let mut view = View { args, follower, printer, numbers: HashMap::new(), output, shown: false };
        let mut tails = args.tails(files);
        let written =
            |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // The daemon's first, then those that have been quiet longest, so that the newest lines stand last.
        tails.sort_by_cached_key(|tail| (tail.speaker.stream != Stream::Daemon, written(&tail.path)));
        for tail in tails {
            view.add(tail, Start::LastLines(args.history()))?;
        }
        view.widen();
        if args.history() > 0 {
            (0..view.printer.tails.len()).try_for_each(|number| view.history(number))?;
        }
        Ok(view)
    }

    /// True if last lines were to be shown and there were none.
    #[must_use]
    pub fn lacks_lines(&self) -> bool {
        !self.shown && self.args.history() > 0
    }

    /// Has [`View::turn`] wake up when `path` may have come to be a socket that takes calls.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn wake_for(&mut self, path: &Path) -> io::Result<()> {
        self.follower.wake_for(path)
    }

    /// Shows also these files, from where they ended then. Whose a file is that is known already, is told anew.
    ///
    /// # Errors
    /// Files that exist and cannot be read or watched.
    pub fn meet(&mut self, files: Vec<LogSource>, ends: &Ends) -> io::Result<()> {
        for tail in self.args.tails(files) {
            match self.numbers.get(&tail.path) {
                Some(number) => self.printer.tails[*number] = tail,
                None => self.add(tail, Start::Since(ends))?,
            }
        }
        self.widen();
        Ok(())
    }

    /// Shows what is new. If that was all there is, sleeps until there may be more, or `news` can be read.
    ///
    /// # Errors
    /// Those of the files and of the output.
    pub fn turn(&mut self, news: Option<BorrowedFd<'_>>) -> io::Result<Woken> {
        let View { follower, printer, output, .. } = self;
        // One clock reading for each wake-up: it is when we saw the line, not when the app wrote it.
        let now = Zoned::now();
        if follower.read(&mut |number, piece| printer.piece(number, piece, Some(&now)))? {
            return Ok(Woken::Changed);
        }
        printer.flush()?;
        let patience = (printer.format.layout != Layout::Json && follower.holds()).then_some(PATIENCE);
        let woken = follower.wait(news, output.as_ref().map(AsFd::as_fd), patience)?;
        if woken == Woken::TimedOut {
            follower.release(&mut |number, piece| printer.piece(number, piece, Some(&now)))?;
        }
        Ok(woken)
    }

    fn add(&mut self, tail: Tail, start: Start<'_>) -> io::Result<()> {
        let number = self.follower.add(&tail.path, start).map_err(|error| about(&tail.path, &error))?;
        self.numbers.insert(tail.path.clone(), number);
        self.printer.tails.push(tail);
        Ok(())
    }

    fn widen(&mut self) {
        if let Layout::Labelled { width } = &mut self.printer.format.layout {
            let widths = self.printer.tails.iter().map(|tail| tail.speaker.label().chars().count());
            *width = widths.max().unwrap_or(0).max(*width);
        }
    }

    /// The last lines of a file, under a heading if there are any.
    fn history(&mut self, number: usize) -> io::Result<()> {
        let View { args, follower, printer, shown, .. } = self;
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

impl LogsArgs {
    fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Out => !self.err,
            Stream::Err => !self.out,
            Stream::Daemon => !self.err && !self.out,
        }
    }

    /// PM2's JSON has no lines from before, since their time is not known.
    fn history(&self) -> usize {
        let default = if self.json && !self.nostream { 0 } else { DEFAULT_LINES };
        self.lines.unwrap_or(default)
    }

    fn format(&self, colour: bool) -> Format {
        let layout = match (self.json, self.raw) {
            (true, _) => Layout::Json,
            (false, true) => Layout::Raw,
            (false, false) => Layout::Labelled { width: LABEL_WIDTH },
        };
        let timestamp = self.timestamp.as_deref().map(TimeFormat::parse);
        Format { layout, colour, timestamp, highlight: self.highlight.clone() }
    }

    /// One tail for each file that is wanted. A file that several processes share loses their ids: which of them wrote
    /// a line, nobody knows.
    fn tails(&self, sources: Vec<LogSource>) -> Vec<Tail> {
        let mut tails: Vec<Tail> = Vec::new();
        let mut numbers: HashMap<PathBuf, usize> = HashMap::new();
        for LogSource { process_id, name, stream, path } in sources {
            if !self.wants(stream) {
                continue;
            }
            match numbers.get(&path) {
                Some(number) => {
                    let known = &mut tails[*number].speaker.process_id;
                    *known = known.filter(|id| Some(*id) == process_id);
                }
                None => {
                    numbers.insert(path.clone(), tails.len());
                    tails.push(Tail { path, speaker: Speaker { process_id, name, stream } });
                }
            }
        }
        tails
    }
}

/// A file and who writes it.
struct Tail {
    path: PathBuf,
    speaker: Speaker,
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
