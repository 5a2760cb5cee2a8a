//! Prints the lines of several files so that none runs into another.

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
    out: OutputStream<'a>,
    err: OutputStream<'a>,
}

/// Standard output or standard error.
struct OutputStream<'a> {
    target: Box<dyn Write + 'a>,
    batch: Vec<u8>,
    /// The file whose unfinished line the cursor stands behind.
    open: Option<usize>,
}

impl<'a> Printer<'a> {
    pub fn new(format: Format, screen: Screen<'a>) -> Printer<'a> {
        let stream = |target| OutputStream { target, batch: Vec::new(), open: None };
        Printer { format, tails: Vec::new(), out: stream(screen.out), err: stream(screen.err) }
    }

    /// Prints `text` and a newline.
    pub fn line(&mut self, text: &str) {
        self.out.batch.extend_from_slice(text.as_bytes());
        self.out.batch.push(b'\n');
    }

    /// Prints a line of the file `number` or a part of one, which was read `at`.
    pub fn piece(&mut self, number: usize, piece: Piece<'_>, at: Option<&Zoned>) -> io::Result<()> {
        let source = &self.tails[number].source;
        // Without labels, only the stream shows which lines are errors.
        let stream = match (self.format.layout, source.stream) {
            (Layout::Raw, Stream::Err) => &mut self.err,
            _ => &mut self.out,
        };
        if self.format.layout != Layout::Json {
            let interrupted = stream.open.is_some_and(|open| open != number);
            if interrupted || (piece.starts && stream.open.is_some()) {
                stream.batch.push(b'\n');
            }
            let continues_interrupted = !piece.starts && stream.open != Some(number);
            if continues_interrupted && piece.text.is_empty() {
                // The rest of the interrupted line is its newline, which has been written.
                stream.open = None;
                return Ok(());
            }
            if continues_interrupted {
                self.format.begin(&mut stream.batch, source, at);
            }
            stream.open = (!piece.ends).then_some(number);
        }
        self.format.piece(&mut stream.batch, source, piece, at);
        if stream.batch.len() >= BATCH { stream.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

impl OutputStream<'_> {
    fn flush(&mut self) -> io::Result<()> {
        self.target.write_all(&self.batch)?;
        self.batch.clear();
        self.target.flush()
    }
}
