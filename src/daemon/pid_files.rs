//! The pid files, `pids/NAME-ID.pid`: written in order by a thread of their own, so that a slow disk holds up nobody.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// Writes and removes pid files.
pub struct PidFiles {
    notes: Option<mpsc::Sender<Note>>,
    writer: Option<JoinHandle<()>>,
}

/// What a file is to say; without a pid it is not to exist.
type Note = (PathBuf, Option<i32>);

impl PidFiles {
    /// Starts the thread.
    pub fn new() -> io::Result<PidFiles> {
        let (notes, queue) = mpsc::channel::<Note>();
        let writer = Builder::new().name("pid files".into()).stack_size(64 << 10).spawn(move || {
            for (path, pid) in queue {
                write(&path, pid);
            }
        })?;
        Ok(PidFiles { notes: Some(notes), writer: Some(writer) })
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
    /// Waits for what is still to be written.
    fn drop(&mut self) {
        self.notes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write(path: &PathBuf, pid: Option<i32>) {
    let noted = match pid {
        Some(pid) => fs::write(path, pid.to_string()),
        None => fs::remove_file(path),
    };
    match noted {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!("{}: {error}", path.display()),
        Ok(()) | Err(_) => {}
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
}
