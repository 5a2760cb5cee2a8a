//! Puts the lines of several files on the screen so that none runs into another.

use std::io::{self, Write};

use jiff::Zoned;

use super::args::Tail;
use crate::cli::ui::Screen;
use crate::logs::format::{Format, Layout, Stream};
use crate::logs::split::Piece;

/// Output is written at the latest when this many bytes have gathered.
const BATCH: usize = 64 << 10;

/// Shows pieces, and keeps lines of different files apart when one is unfinished.
pub struct Printer<'a> {
    pub format: Format,
    pub tails: Vec<Tail>,
    out: Side<'a>,
    err: Side<'a>,
}

/// One stream of ours.
struct Side<'a> {
    to: Box<dyn Write + 'a>,
    batch: Vec<u8>,
    /// The file whose unfinished line the cursor stands behind.
    open: Option<usize>,
}

impl<'a> Printer<'a> {
    pub fn new(format: Format, screen: Screen<'a>) -> Printer<'a> {
        let side = |to| Side { to, batch: Vec::new(), open: None };
        Printer { format, tails: Vec::new(), out: side(screen.out), err: side(screen.err) }
    }

    /// A line of its own, and an empty one where `text` is empty.
    pub fn line(&mut self, text: &str) {
        self.out.batch.extend_from_slice(text.as_bytes());
        self.out.batch.push(b'\n');
    }

    /// A line of the file `number` or a part of one, seen `at`.
    pub fn piece(&mut self, number: usize, piece: Piece<'_>, at: Option<&Zoned>) -> io::Result<()> {
        let source = &self.tails[number].source;
        // Without labels only the stream tells what was an error.
        let side = match (self.format.layout, source.stream) {
            (Layout::Raw, Stream::Err) => &mut self.err,
            _ => &mut self.out,
        };
        if self.format.layout != Layout::Json {
            let interrupted = side.open.is_some_and(|open| open != number);
            if interrupted || (piece.starts && side.open.is_some()) {
                side.batch.push(b'\n');
            }
            let goes_on_elsewhere = !piece.starts && side.open != Some(number);
            if goes_on_elsewhere && piece.text.is_empty() {
                // The rest of an interrupted line is its newline, and that has been written.
                side.open = None;
                return Ok(());
            }
            if goes_on_elsewhere {
                self.format.begin(&mut side.batch, source, at);
            }
            side.open = (!piece.ends).then_some(number);
        }
        self.format.piece(&mut side.batch, source, piece, at);
        if side.batch.len() >= BATCH { side.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

impl Side<'_> {
    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.batch)?;
        self.batch.clear();
        self.to.flush()
    }
}
