//! The pid files, `pids/NAME-ID.pid`: written in order by a thread of their own, so that a slow disk does not block God.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::Duration;

/// After a failure to write a file, wait this long before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the end of the daemon waits for files that are still to be written: a disk may hang.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes and removes pid files.
pub struct PidFiles {
    changes: Option<Sender<Change>>,
    /// Closed by the thread when `changes` is closed and all files are written.
    written: Receiver<()>,
}

/// The path of a file and the pid it is to contain; without a pid the file is removed.
type Change = (PathBuf, Option<i32>);

impl PidFiles {
    /// Starts the thread.
    pub fn new() -> io::Result<PidFiles> {
        let (changes, queue) = mpsc::channel::<Change>();
        let (done, written) = mpsc::channel();
        Builder::new().name("pid files".into()).stack_size(256 << 10).spawn(move || {
            write_all(&queue);
            drop(done);
        })?;
        Ok(PidFiles { changes: Some(changes), written })
    }

    /// Has the thread write this pid to the file, or remove the file if there is none.
    pub fn set(&self, path: PathBuf, pid: Option<i32>) {
        if let Some(changes) = &self.changes {
            // Cannot fail: the thread runs until `changes` is dropped.
            let _ = changes.send((path, pid));
        }
    }
}

impl Drop for PidFiles {
    /// Waits until all files are written, for [`FLUSH_TIMEOUT`] at most.
    fn drop(&mut self) {
        self.changes = None;
        let _ = self.written.recv_timeout(FLUSH_TIMEOUT);
    }
}

fn write_all(queue: &Receiver<Change>) {
    let mut failed = BTreeMap::new();
    loop {
        let change = match failed.is_empty() {
            true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => queue.recv_timeout(RETRY_DELAY),
        };
        match change {
            Ok((path, pid)) => {
                failed.remove(&path);
                if let Err(error) = write(&path, pid) {
                    tracing::warn!("{}: {error}; it is tried again", path.display());
                    failed.insert(path, pid);
                }
            }
            Err(RecvTimeoutError::Timeout) => failed.retain(|path, pid| write(path, *pid).is_err()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn write(path: &Path, pid: Option<i32>) -> io::Result<()> {
    let Some(pid) = pid else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
    };
    match (fs::write(path, pid.to_string()), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            fs::write(path, pid.to_string())
        }
        (written, _) => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_each_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.pid"), folder.path().join("two.pid"));
        let files = PidFiles::new().unwrap();
        for (path, pid) in [(&one, Some(1)), (&two, Some(2)), (&one, Some(3)), (&two, None), (&two, None)] {
            files.set(path.clone(), pid);
        }
        drop(files);
        assert_eq!(fs::read_to_string(one).unwrap(), "3");
        assert!(!two.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        fs::write(&pids, "in the way").unwrap();
        let files = PidFiles::new().unwrap();
        files.set(pids.join("one.pid"), Some(1));
        files.set(pids.join("one.pid"), Some(2));
        fs::remove_file(&pids).unwrap();
        let start = std::time::Instant::now();
        while fs::read_to_string(pids.join("one.pid")).ok().as_deref() != Some("2") {
            assert!(start.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }
}
