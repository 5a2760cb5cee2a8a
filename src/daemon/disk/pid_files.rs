//! The pid files, `pids/NAME-ID.pid`: written in order by a thread of their own, so that a slow disk holds up nobody.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::Duration;

/// What could not be written is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// How long our end waits for what is still to be written: a disk may hang.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Writes and removes pid files.
pub struct PidFiles {
    notes: Option<Sender<Note>>,
    /// Hangs up when all is written after our end.
    written: Receiver<()>,
}

/// What a file is to say; without a pid it is not to exist.
type Note = (PathBuf, Option<i32>);

impl PidFiles {
    /// Starts the thread.
    pub fn new() -> io::Result<PidFiles> {
        let (notes, queue) = mpsc::channel::<Note>();
        let (done, written) = mpsc::channel();
        Builder::new().name("pid files".into()).stack_size(256 << 10).spawn(move || {
            write_all(&queue);
            drop(done);
        })?;
        Ok(PidFiles { notes: Some(notes), written })
    }

    /// From now on the file says this.
    pub fn note(&self, path: PathBuf, pid: Option<i32>) {
        if let Some(notes) = &self.notes {
            // It ends only with us.
            let _ = notes.send((path, pid));
        }
    }
}

impl Drop for PidFiles {
    /// Waits for what is still to be written, within reason.
    fn drop(&mut self) {
        self.notes = None;
        let _ = self.written.recv_timeout(LAST_WORDS);
    }
}

fn write_all(queue: &Receiver<Note>) {
    let mut failed = BTreeMap::new();
    loop {
        let noted = match failed.is_empty() {
            true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => queue.recv_timeout(AGAIN),
        };
        match noted {
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
    fn the_last_note_holds() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.pid"), folder.path().join("two.pid"));
        let files = PidFiles::new().unwrap();
        for (path, pid) in [(&one, Some(1)), (&two, Some(2)), (&one, Some(3)), (&two, None), (&two, None)] {
            files.note(path.clone(), pid);
        }
        drop(files);
        assert_eq!(fs::read_to_string(one).unwrap(), "3");
        assert!(!two.exists());
    }

    #[test]
    fn what_cannot_be_written_is_written_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        fs::write(&pids, "in the way").unwrap();
        let files = PidFiles::new().unwrap();
        files.note(pids.join("one.pid"), Some(1));
        files.note(pids.join("one.pid"), Some(2));
        fs::remove_file(&pids).unwrap();
        let start = std::time::Instant::now();
        while fs::read_to_string(pids.join("one.pid")).ok().as_deref() != Some("2") {
            assert!(start.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }
}
