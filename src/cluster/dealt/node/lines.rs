//! Splits a byte stream into lines. Only a line that a read left unfinished is copied.

/// The longest line, in bytes. A longer one is dropped, so that a worker cannot fill the daemon's memory.
const MAX_LINE: usize = 64 << 20;
/// The most bytes that stay allocated after a long line.
const MAX_KEPT: usize = 64 << 10;

/// The unfinished line of a stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// True in the middle of a line that was too long.
    skipping: bool,
}

impl Lines {
    /// Takes the next bytes of the stream and calls `each` for every line they complete, without its newline.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.partial.is_empty() {
                each(line);
            } else {
                self.partial.extend_from_slice(line);
                each(&self.partial);
                self.partial.clear();
                self.partial.shrink_to(MAX_KEPT);
            }
        }
        self.keep(bytes);
    }

    fn keep(&mut self, rest: &[u8]) {
        if self.skipping {
            return;
        }
        if self.partial.len() + rest.len() > MAX_LINE {
            self.partial = Vec::new();
            self.skipping = true;
            tracing::warn!("a worker sent a line of more than {} MiB on its channel: dropped", MAX_LINE >> 20);
            return;
        }
        self.partial.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| got.push(line.to_vec()));
        }
        got
    }

    #[test]
    fn the_lines_do_not_depend_on_where_reads_split_the_stream() {
        let text = b"one\n\ntwo two\nthree\nunfinished";
        let whole = fed(&[text]);
        assert_eq!(whole, [&b"one"[..], b"", b"two two", b"three"]);
        for cut in 0..text.len() {
            assert_eq!(fed(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(fed(&bytes), whole);
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_is_read() {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..70 {
            lines.feed(&piece, |line| got.push(line.to_vec()));
        }
        assert!(lines.partial.capacity() == 0);
        lines.feed(b"end of it\nnext\n", |line| got.push(line.to_vec()));
        assert_eq!(got, [b"next"]);
    }
}
