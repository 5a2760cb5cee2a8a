//! The output of a check by command. Its end is kept for messages. The rest is read and dropped, so that the command does
//! not block on a full pipe and the daemon's memory does not grow.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The end of an output that is kept, in bytes.
const KEPT: usize = 4096;
/// Bytes read at a time.
const CHUNK: usize = 8192;
/// Bytes that are read without a pause. After them there is a [`PAUSE`] after each chunk, so that a command with endless
/// output does not keep God's thread busy.
const BYTES_WITHOUT_PAUSE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(1);
/// Characters of a line in a message at most.
const MAX_LINE: usize = 200;

/// The end of the output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The last [`KEPT`] bytes.
    kept: Vec<u8>,
    /// Bytes read so far.
    total: usize,
}

impl Output {
    /// Reads the output. Never completes, also not at the end of the stream: the caller drops it when the command has
    /// ended. May be dropped at any time.
    pub(crate) async fn read_all(&mut self, from: &mut pipe::Receiver) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            self.keep(&chunk[..count]);
            if self.total > BYTES_WITHOUT_PAUSE {
                tokio::time::sleep(PAUSE).await;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Reads what is left in the pipe after the command has ended. Reads directly, since the runtime may not have noticed
    /// yet that the pipe is readable.
    pub(crate) fn read_rest(&mut self, from: impl AsFd) {
        let mut chunk = vec![0; CHUNK];
        // Bounded by the size of a pipe, since a process that was not killed might write without an end.
        for _ in 0..=BYTES_WITHOUT_PAUSE / CHUNK {
            match rustix::io::read(&from, &mut *chunk) {
                Ok(count @ 1..) => self.keep(&chunk[..count]),
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len());
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
    }

    /// The last line that is not blank, without control characters, cut to [`MAX_LINE`] characters.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).take(MAX_LINE).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of(parts: &[&[u8]]) -> Output {
        let mut output = Output::default();
        parts.iter().for_each(|part| output.keep(part));
        output
    }

    #[test]
    fn the_last_line_is_kept_of_any_amount_of_output() {
        assert_eq!(output_of(&[]).last_line(), None);
        assert_eq!(output_of(&[b" \n\n"]).last_line(), None);
        assert_eq!(output_of(&[b"first\nno resp", b"onse \r\n\n"]).last_line().as_deref(), Some("no response"));
        assert_eq!(output_of(&[b"\x1b[31mred\x1b[0m \xff"]).last_line().as_deref(), Some("[31mred[0m \u{fffd}"));
        let much = vec![b'x'; 1 << 20];
        let output = output_of(&[&much, b"\nthe end"]);
        assert_eq!((output.kept.len(), output.last_line().as_deref()), (KEPT, Some("the end")));
        assert_eq!(output_of(&[&much]).last_line().map(|line| line.len()), Some(MAX_LINE));
    }

    #[test]
    fn the_rest_is_read_without_waiting_for_more() {
        let (reader, writer) = crate::os::process::spawn::output_pipe().unwrap();
        rustix::io::write(&writer, b"so far").unwrap();
        let mut output = Output::default();
        output.read_rest(&reader);
        assert_eq!(output.last_line().as_deref(), Some("so far"));
    }
}
