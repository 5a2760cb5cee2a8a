//! A file of lines that does not grow without end: when it is large, it is set aside under a number, and the oldest goes.
//!
//! What cannot be written is counted, and said in the file itself once it can be again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Such a file.
pub struct Rotating {
    path: PathBuf,
    largest: u64,
    kept: u32,
    /// The file and its size; none before the first line, and after a write that failed.
    open: Option<(File, u64)>,
    /// Lines that could not be written. A log has nowhere to complain but in itself, later.
    lost: u64,
}

/// Opens it for adding lines to its end. Makes it, for its owner alone.
pub fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).append(true).mode(0o600).open(path)
}

impl Rotating {
    /// One of at most about `largest` bytes, with so many old ones `kept` beside it: `PATH.1` is the youngest.
    #[must_use]
    pub fn new(path: PathBuf, largest: u64, kept: u32) -> Rotating {
        Rotating { path, largest, kept, open: None, lost: 0 }
    }

    /// Adds a line, whose end is part of it.
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
            Some((file, size)) if size <= self.largest && !deleted(&file) => (file, size),
            Some((_, size)) if size > self.largest => (self.rotate()?, 0),
            Some(_) | None => {
                let file = open(&self.path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        let mut text = Vec::new();
        if self.lost > 0 {
            // The last of them may stand there in part.
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

    const LARGEST: u64 = 1 << 20;

    #[test]
    fn it_rotates_and_keeps_three() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmr.log");
        let mut log = Rotating::new(path.clone(), LARGEST, 3);
        for round in 0..6 {
            log.write(format!("round {round}\n").as_bytes());
            log.open.as_mut().unwrap().1 = LARGEST + 1;
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("pmr.log"), "round 5\n");
        assert_eq!(read("pmr.log.1"), "round 4\n");
        assert_eq!(read("pmr.log.3"), "round 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmr.log");
        let mut log = Rotating::new(path.clone(), LARGEST, 3);
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
