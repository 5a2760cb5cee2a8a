//! Ends of log files at a moment. The logs of processes that are started later are read from there: all lines of the
//! new processes, and none of an earlier process of the same name.

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
    /// Length in bytes by device and inode: a file that replaced another one has another inode.
    lengths: HashMap<(u64, u64), u64>,
}

impl Ends {
    /// The ends of the files in `folder` now. Empty if there is no such folder.
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
            // A file that was deleted meanwhile is skipped.
            if let Ok(metadata) = entry?.metadata() {
                ends.lengths.insert((metadata.dev(), metadata.ino()), metadata.len());
            }
        }
        Ok(ends)
    }

    /// Offset of the first byte of the file at `path` that was written after that moment. Of files in other folders
    /// only the time of their creation is known: older files start at their present end.
    pub(super) fn start_in(&self, path: &Path, metadata: &Metadata) -> u64 {
        match self.lengths.get(&(metadata.dev(), metadata.ino())) {
            Some(length) if *length <= metadata.len() => *length,
            // The file was emptied, or another file has got the inode.
            Some(_) => 0,
            None if path.parent() == Some(&self.folder) => 0,
            None if metadata.created().is_ok_and(|born| born >= self.taken) => 0,
            None => metadata.len(),
        }
    }
}
