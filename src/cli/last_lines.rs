//! The last lines of a log file, for messages: what a process wrote before it failed.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The last lines of a file, as far as they lie in its last 64 KiB; none if it cannot be read.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    last_lines_from(path, count, 0)
}

/// The last lines after the first `from` bytes. If the file is shorter than that, it was emptied or replaced, and its
/// last lines are returned.
#[must_use]
pub fn last_lines_from(path: &Path, count: usize, from: u64) -> Vec<String> {
    let mut tail = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(end.saturating_sub(64 << 10).max(from)))?;
        file.take(64 << 10).read_to_end(&mut tail)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Indents lines by four spaces.
#[must_use]
pub fn indent(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last_lines(file.path(), 2), ["line 19998", "line 19999"]);
    }
}
