//! What a check by command says: its last words are kept, the rest is read and forgotten, so that it can neither block
//! for want of a reader nor fill our memory.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The end of an output that is kept, in bytes.
const KEPT: usize = 4096;
/// Bytes read at a time.
const CHUNK: usize = 8192;
/// So much is read as it comes. Who says more waits for us now and then, and we stay free for others.
const FREELY: usize = 64 << 10;
/// The wait.
const BREATH: Duration = Duration::from_millis(1);
/// A line in a message has so many characters at most.
const LONGEST_LINE: usize = 200;

/// The end of what was said.
#[derive(Debug, Default)]
pub(crate) struct Output {
    kept: Vec<u8>,
    total: usize,
}

impl Output {
    /// Reads and never comes to an end: who ends it knows when there is enough. May be dropped at any time.
    pub(crate) async fn gather(&mut self, from: &mut pipe::Receiver) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            self.keep(&chunk[..count]);
            if self.total > FREELY {
                tokio::time::sleep(BREATH).await;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Reads what is there, of an output that nobody adds to any more. The runtime may not have seen yet that there is
    /// something, so it is not asked.
    pub(crate) fn finish(&mut self, from: impl AsFd) {
        let mut chunk = vec![0; CHUNK];
        // A pipe holds no more; somebody who escaped might go on for ever.
        for _ in 0..=FREELY / CHUNK {
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

    /// The last line that says something, fit to be shown.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(parts: &[&[u8]]) -> Output {
        let mut output = Output::default();
        parts.iter().for_each(|part| output.keep(part));
        output
    }

    #[test]
    fn the_last_line_is_kept_of_however_much() {
        assert_eq!(said(&[]).last_line(), None);
        assert_eq!(said(&[b" \n\n"]).last_line(), None);
        assert_eq!(said(&[b"first\nno resp", b"onse \r\n\n"]).last_line().as_deref(), Some("no response"));
        assert_eq!(said(&[b"\x1b[31mred\x1b[0m \xff"]).last_line().as_deref(), Some("[31mred[0m \u{fffd}"));
        let much = vec![b'x'; 1 << 20];
        let output = said(&[&much, b"\nthe end"]);
        assert_eq!((output.kept.len(), output.last_line().as_deref()), (KEPT, Some("the end")));
        assert_eq!(said(&[&much]).last_line().map(|line| line.len()), Some(LONGEST_LINE));
    }

    #[test]
    fn what_is_there_is_read_and_more_is_not_waited_for() {
        let (reader, writer) = crate::os::process::spawn::output_pipe().unwrap();
        rustix::io::write(&writer, b"so far").unwrap();
        let mut output = Output::default();
        output.finish(&reader);
        assert_eq!(output.last_line().as_deref(), Some("so far"));
    }
}
