//! A file of lines whose size is bounded: when it is large, it is renamed to a number, and the oldest of the renamed files
//! is removed.
//!
//! Lines that cannot be written are counted, and the count is written to the file once it can be written again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is rotated.
pub struct Rotating {
    path: PathBuf,
    /// Size in bytes at which the file is rotated.
    max_bytes: u64,
    /// Rotated files that are kept.
    kept: u32,
    /// The file and its size; `None` before the first line, and after a write that failed.
    open: Option<(File, u64)>,
    /// Lines that could not be written since the last line that could.
    lost: u64,
}

/// Opens a file for appending. If there is none, it is made for its owner alone.
pub fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).append(true).mode(0o600).open(path)
}

impl Rotating {
    /// A file that is rotated once it has more than `max_bytes`. `kept` rotated files stay beside it; `PATH.1` is the
    /// newest.
    #[must_use]
    pub fn new(path: PathBuf, max_bytes: u64, kept: u32) -> Rotating {
        Rotating { path, max_bytes, kept, open: None, lost: 0 }
    }

    /// Appends a line, which ends with a line feed.
    pub fn write(&mut self, line: &[u8]) {
        match self.try_write(line) {
            Ok(()) => self.lost = 0,
            Err(_) => {
                self.lost += 1;
                self.open = None;
            }
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let deleted = |file: &File| file.metadata().is_ok_and(|known| known.nlink() == 0);
        let (mut file, mut size) = match self.open.take() {
            Some((file, size)) if size <= self.max_bytes && !deleted(&file) => (file, size),
            Some((_, size)) if size > self.max_bytes => (self.rotate()?, 0),
            Some(_) | None => {
                let file = open(&self.path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        let mut text = Vec::new();
        if self.lost > 0 {
            // A part of the last lost line may be in the file: the text begins with a line feed.
            text = format!("\n({} lines are missing here: the log could not be written)\n", self.lost).into_bytes();
        }
        text.extend_from_slice(line);
        file.write_all(&text)?;
        size += text.len() as u64;
        self.open = Some((file, size));
        Ok(())
    }

    fn rotate(&self) -> io::Result<File> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.kept).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.path, numbered(1))?;
        open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: u64 = 1 << 20;

    #[test]
    fn a_large_file_is_rotated_and_three_rotated_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmr.log");
        let mut log = Rotating::new(path.clone(), MAX_BYTES, 3);
        for round in 0..6 {
            log.write(format!("round {round}\n").as_bytes());
            log.open.as_mut().unwrap().1 = MAX_BYTES + 1;
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("pmr.log"), "round 5\n");
        assert_eq!(read("pmr.log.1"), "round 4\n");
        assert_eq!(read("pmr.log.3"), "round 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn lost_lines_are_counted_and_the_count_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmr.log");
        let mut log = Rotating::new(path.clone(), MAX_BYTES, 3);
        fs::create_dir(&path).unwrap();
        log.write(b"one\n");
        log.write(b"two\n");
        fs::remove_dir(&path).unwrap();
        log.write(b"three\n");
        log.write(b"four\n");
        let expected = "\n(2 lines are missing here: the log could not be written)\nthree\nfour\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        fs::remove_file(&path).unwrap();
        log.write(b"five\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n", "a deleted file is made again");
    }
}
