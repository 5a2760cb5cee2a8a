//! The arguments of `pmr logs`, and the files and the format that they select.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::cli::whole_number;
use crate::logs::format::{Format, Layout, LineSource, Stream};
use crate::logs::time_format::{self, TimeFormat};

/// Lines shown of each file without `--lines`.
const DEFAULT_LINES: usize = 15;
/// Narrowest label, so that the lines of most apps stand below each other.
const LABEL_WIDTH: usize = 10;
/// Show the last lines of log files, then new ones
#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  pmr logs
  pmr logs api --lines 100 --nostream
  pmr logs 0 3 --err --timestamp
  pmr logs PMR                        the daemon's own")]
pub struct Args {
    /// Ids, names, namespaces, /regular expressions/ or `all` [default: all, and the daemon's own log]
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Last lines to show of each file [default: 15; none with --json unless --nostream]
    #[arg(long, value_name = "N", value_parser = whole_number::count)]
    pub lines: Option<usize>,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only standard output
    #[arg(long)]
    pub out: bool,
    /// Only the lines, without labels and headings; those of standard error go to standard error
    #[arg(long)]
    pub raw: bool,
    /// One JSON object for each line
    #[arg(long, conflicts_with_all = ["raw", "highlight"])]
    pub json: bool,
    /// Put the time before each new line
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = time_format::DEFAULT)]
    pub timestamp: Option<String>,
    /// Show the last lines and exit
    #[arg(long)]
    pub nostream: bool,
    /// Highlight TEXT
    #[arg(long, value_name = "TEXT")]
    pub highlight: Option<String>,
}

/// A file to read, and the process that writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLog {
    /// Id of the process; `None` for the daemon.
    pub process_id: Option<u32>,
    /// Name of the app, `PMR` for the daemon.
    pub name: String,
    /// The stream that is in the file.
    pub stream: Stream,
    /// The file. It need not exist yet.
    pub path: PathBuf,
}

/// A file and the label of its lines.
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) source: LineSource,
}

impl Args {
    fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Out => !self.err,
            Stream::Err => !self.out,
            Stream::Daemon => !self.err && !self.out,
        }
    }

    /// Number of last lines to show. PM2's JSON has none of them, because their time is not known.
    pub(super) fn history(&self) -> usize {
        let default = if self.json && !self.nostream { 0 } else { DEFAULT_LINES };
        self.lines.unwrap_or(default)
    }

    pub(super) fn format(&self, colour: bool) -> Format {
        let layout = match (self.json, self.raw) {
            (true, _) => Layout::Json,
            (false, true) => Layout::Raw,
            (false, false) => Layout::Labelled { width: LABEL_WIDTH },
        };
        let timestamp = self.timestamp.as_deref().map(TimeFormat::parse);
        Format { layout, colour, timestamp, highlight: self.highlight.clone() }
    }

    /// One tail for each selected file. A file that several processes share has no process id, because which of them
    /// wrote a line is not known.
    pub(super) fn tails(&self, sources: Vec<ProcessLog>) -> Vec<Tail> {
        let mut tails: Vec<Tail> = Vec::new();
        let mut numbers: HashMap<PathBuf, usize> = HashMap::new();
        for ProcessLog { process_id, name, stream, path } in sources {
            if !self.wants(stream) {
                continue;
            }
            match numbers.get(&path) {
                Some(number) => {
                    let known = &mut tails[*number].source.process_id;
                    *known = known.filter(|id| Some(*id) == process_id);
                }
                None => {
                    numbers.insert(path.clone(), tails.len());
                    tails.push(Tail { path, source: LineSource { process_id, name, stream } });
                }
            }
        }
        tails
    }
}
