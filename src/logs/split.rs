//! Splits bytes into lines for display. PURE.

use std::io;

/// Size in bytes from which a line without an end is passed on in pieces.
pub const MAX_PIECE: usize = 1 << 20;

/// A line, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes, without the newline.
    pub text: &'a [u8],
    /// The line begins here.
    pub starts: bool,
    /// The line ends here.
    pub ends: bool,
}

/// Receives the pieces of one file, in order.
pub type Sink<'a> = &'a mut dyn FnMut(Piece<'_>) -> io::Result<()>;

/// Cuts a stream of bytes into lines. Holds back an unfinished line.
#[derive(Debug, Default)]
pub struct Splitter {
    held: Vec<u8>,
    /// A part of the current line was passed on already.
    open: bool,
}

impl Splitter {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn push(&mut self, bytes: &[u8], sink: Sink<'_>) -> io::Result<()> {
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', bytes) {
            self.end_line(&bytes[start..newline], sink)?;
            start = newline + 1;
        }
        self.held.extend_from_slice(&bytes[start..]);
        if self.held.len() >= MAX_PIECE { self.release(sink) } else { Ok(()) }
    }

    /// Passes on what is held back as a piece whose line goes on, such as a prompt.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn release(&mut self, sink: Sink<'_>) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.held);
        let starts = !std::mem::replace(&mut self.open, true);
        sink(Piece { text: &text, starts, ends: false })
    }

    /// Ends the stream: what is held back is the last line.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self, sink: Sink<'_>) -> io::Result<()> {
        if self.is_midline() { self.end_line(&[], sink) } else { Ok(()) }
    }

    /// True if the last line has begun and not ended.
    #[must_use]
    pub fn is_midline(&self) -> bool {
        self.open || !self.held.is_empty()
    }

    /// True if the beginning of a line is held back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    fn end_line(&mut self, rest: &[u8], sink: Sink<'_>) -> io::Result<()> {
        let starts = !std::mem::replace(&mut self.open, false);
        if self.held.is_empty() {
            return sink(Piece { text: rest, starts, ends: true });
        }
        self.held.extend_from_slice(rest);
        let text = std::mem::take(&mut self.held);
        sink(Piece { text: &text, starts, ends: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            seen.push((piece.text.to_vec(), piece.starts, piece.ends));
            Ok(())
        };
        for chunk in chunks {
            splitter.push(chunk, &mut sink).unwrap();
        }
        splitter.finish(&mut sink).unwrap();
        seen
    }

    #[test]
    fn lines_do_not_depend_on_the_chunks_in_which_bytes_arrive() {
        let whole = pieces(&[b"one\n\ntwo \xff\r\nlast"]);
        assert_eq!(
            whole.iter().map(|(text, ..)| &text[..]).collect::<Vec<_>>(),
            [&b"one"[..], b"", b"two \xff\r", b"last"]
        );
        assert!(whole.iter().all(|(_, starts, ends)| *starts && *ends));
        assert_eq!(pieces(&[b"on", b"e", b"\n\n", b"", b"two \xff\r\nla", b"st"]), whole);
    }

    #[test]
    fn an_endless_line_comes_in_bounded_pieces_that_add_up_to_it() {
        let chunk = vec![b'x'; 600_000];
        let seen = pieces(&[&chunk, &chunk, &chunk, &chunk, &chunk, b"\nnext\n"]);
        assert!(seen.iter().all(|(text, ..)| text.len() < MAX_PIECE + chunk.len()));
        let flags: Vec<_> = seen.iter().map(|(_, starts, ends)| (*starts, *ends)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true), (true, true)]);
        assert_eq!(seen[..3].iter().map(|(text, ..)| text.len()).sum::<usize>(), 3_000_000);
        assert_eq!(seen[3].0, b"next");
    }

    #[test]
    fn text_after_a_released_prompt_continues_its_line() {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            seen.push((piece.text.to_vec(), piece.starts, piece.ends));
            Ok(())
        };
        splitter.push(b"name? ", &mut sink).unwrap();
        splitter.release(&mut sink).unwrap();
        splitter.release(&mut sink).unwrap();
        splitter.push(b"\nok\n", &mut sink).unwrap();
        splitter.finish(&mut sink).unwrap();
        assert_eq!(
            seen,
            [(b"name? ".to_vec(), true, false), (b"".to_vec(), false, true), (b"ok".to_vec(), true, true)]
        );
    }
}
