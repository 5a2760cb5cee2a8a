//! Where log files ended at a moment, for reading from there those of processes that came later: all they wrote since,
//! and nothing that a namesake wrote before.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The ends of the files of one folder.
#[derive(Debug)]
pub struct Ends {
    folder: PathBuf,
    taken: SystemTime,
    /// Length in bytes by device and inode: a file that took over a name is another file.
    lengths: HashMap<(u64, u64), u64>,
}

impl Ends {
    /// Those of the files in `folder` now. No folder, no files.
    ///
    /// # Errors
    /// When the folder exists and cannot be read.
    pub fn of(folder: &Path) -> io::Result<Ends> {
        let mut ends = Ends { folder: folder.to_owned(), taken: SystemTime::now(), lengths: HashMap::new() };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ends),
            Err(error) => return Err(error),
        };
        for entry in entries {
            // What vanishes meanwhile has no end.
            if let Ok(metadata) = entry?.metadata() {
                ends.lengths.insert((metadata.dev(), metadata.ino()), metadata.len());
            }
        }
        Ok(ends)
    }

    /// The first byte of the file at `path` that was not there at that moment. Of files elsewhere only their birth is
    /// known: those that were there already start at their present end.
    pub(super) fn start_in(&self, path: &Path, metadata: &Metadata) -> u64 {
        match self.lengths.get(&(metadata.dev(), metadata.ino())) {
            Some(length) if *length <= metadata.len() => *length,
            // Emptied, or another file in the same place of the disk.
            Some(_) => 0,
            None if path.parent() == Some(&self.folder) => 0,
            None if metadata.created().is_ok_and(|born| born >= self.taken) => 0,
            None => metadata.len(),
        }
    }
}
