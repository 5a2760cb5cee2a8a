//! `pmr logs`: the last lines of log files, then what comes.
//!
//! Reads the files itself; the daemon only says which they are, and need not even run.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Zoned;

use crate::logs::format::{Format, Layout, Speaker, Stream};
use crate::logs::split::Piece;
use crate::logs::tail::{Follower, Woken};
use crate::logs::time_format::{self, TimeFormat};

/// Lines shown of each file before what comes, unless told otherwise.
const DEFAULT_LINES: usize = 15;
/// Narrowest label, so that the lines of most apps stand below each other.
const LABEL_WIDTH: usize = 10;
/// An unfinished line (a prompt) is shown when nothing came for so long.
const PATIENCE: Duration = Duration::from_millis(200);
/// Output is written at the latest when this many bytes have gathered.
const BATCH: usize = 64 << 10;

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
    /// The lines alone, without labels and headings
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

/// Where the lines go.
pub struct Screen<'a, W> {
    /// Takes the bytes.
    pub out: &'a mut W,
    /// The descriptor behind `out`, where there is one: when its reader goes away, so do we, even if nothing is said.
    pub fd: Option<BorrowedFd<'a>>,
    /// Whether it shows colours.
    pub colour: bool,
}

/// Shows the last lines of the files and, unless told not to, what comes. Returns when its reader has hung up, or at
/// once with `--nostream`.
///
/// # Errors
/// Files that exist and cannot be read or watched, and failing output. That the reader is gone is no error.
pub fn run<W: Write>(args: &LogsArgs, files: Vec<LogSource>, screen: Screen<'_, W>) -> io::Result<()> {
    match show(args, files, screen) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn show<W: Write>(args: &LogsArgs, files: Vec<LogSource>, screen: Screen<'_, W>) -> io::Result<()> {
    let Screen { out, fd, colour } = screen;
    let tails = tails_of(files.into_iter().filter(|file| args.wants(file.stream)).collect());
    let mut follower = Follower::new()?;
    for tail in &tails {
        let lines = args.history();
        follower.add(&tail.path, lines).map_err(|error| about(&tail.path, &error))?;
    }
    let mut printer = Printer::new(args.format(&tails, colour), tails, out);
    if args.history() > 0 {
        for number in 0..printer.tails.len() {
            printer.history(&mut follower, number, args)?;
        }
    }
    if args.nostream { printer.flush() } else { printer.follow(&mut follower, fd) }
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

    fn format(&self, tails: &[Tail], colour: bool) -> Format {
        let widest = tails.iter().map(|tail| tail.speaker.label().chars().count()).max().unwrap_or(0);
        let layout = match (self.json, self.raw) {
            (true, _) => Layout::Json,
            (false, true) => Layout::Raw,
            (false, false) => Layout::Labelled { width: widest.max(LABEL_WIDTH) },
        };
        let timestamp = self.timestamp.as_deref().map(TimeFormat::parse);
        Format { layout, colour, timestamp, highlight: self.highlight.clone() }
    }
}

/// A file and who writes it.
struct Tail {
    path: PathBuf,
    speaker: Speaker,
}

/// One tail for each file, the daemon's first, then those that have been quiet longest, so that the newest lines stand
/// last. A file that several processes share loses their ids: which of them wrote a line, nobody knows.
fn tails_of(sources: Vec<LogSource>) -> Vec<Tail> {
    let mut tails: Vec<Tail> = Vec::new();
    for source in sources {
        let LogSource { process_id, name, stream, path } = source;
        match tails.iter_mut().find(|tail| tail.path == path) {
            Some(known) if known.speaker.process_id != process_id => known.speaker.process_id = None,
            Some(_) => {}
            None => tails.push(Tail { path, speaker: Speaker { process_id, name, stream } }),
        }
    }
    let written =
        |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    tails.sort_by_cached_key(|tail| (tail.speaker.stream != Stream::Daemon, written(&tail.path)));
    tails
}

/// Shows pieces, and keeps lines of different files apart when one is unfinished.
struct Printer<'a, W> {
    format: Format,
    tails: Vec<Tail>,
    out: &'a mut W,
    batch: Vec<u8>,
    /// The file whose unfinished line the cursor stands behind.
    open: Option<usize>,
}

impl<'a, W: Write> Printer<'a, W> {
    fn new(format: Format, tails: Vec<Tail>, out: &'a mut W) -> Printer<'a, W> {
        Printer { format, tails, out, batch: Vec::new(), open: None }
    }

    fn history(&mut self, follower: &mut Follower, number: usize, args: &LogsArgs) -> io::Result<()> {
        let path = self.tails[number].path.clone();
        let headed = matches!(self.format.layout, Layout::Labelled { .. });
        if headed {
            writeln!(self.batch, "{} last {} lines:", path.display(), args.history())?;
        }
        follower.catch_up(number, &mut |piece| self.piece(number, piece, None))?;
        if args.nostream {
            follower.finish(number, &mut |piece| self.piece(number, piece, None))?;
        }
        if headed {
            self.batch.push(b'\n');
        }
        self.flush()
    }

    fn follow(&mut self, follower: &mut Follower, reader: Option<BorrowedFd<'_>>) -> io::Result<()> {
        loop {
            // One clock reading for each wake-up: it is when we saw the line, not when the app wrote it.
            let now = Zoned::now();
            let more = follower.read(&mut |number, piece| self.piece(number, piece, Some(&now)))?;
            if more {
                continue;
            }
            self.flush()?;
            let patience = (self.format.layout != Layout::Json && follower.holds()).then_some(PATIENCE);
            match follower.wait(reader, patience)? {
                Woken::Changed => {}
                Woken::HungUp => return Ok(()),
                Woken::TimedOut => {
                    follower.release(&mut |number, piece| self.piece(number, piece, Some(&now)))?;
                }
            }
        }
    }

    fn piece(&mut self, number: usize, piece: Piece<'_>, at: Option<&Zoned>) -> io::Result<()> {
        let speaker = &self.tails[number].speaker;
        if self.format.layout != Layout::Json {
            let interrupted = self.open.is_some_and(|open| open != number);
            if interrupted || (piece.starts && self.open.is_some()) {
                self.batch.push(b'\n');
            }
            let goes_on_elsewhere = !piece.starts && self.open != Some(number);
            if goes_on_elsewhere && piece.text.is_empty() {
                // The rest of an interrupted line is its newline, and that has been written.
                self.open = None;
                return Ok(());
            }
            if goes_on_elsewhere {
                self.format.begin(&mut self.batch, speaker, at);
            }
            self.open = (!piece.ends).then_some(number);
        }
        self.format.piece(&mut self.batch, speaker, piece, at);
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.batch)?;
        self.batch.clear();
        self.out.flush()
    }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
