//! The process list on disk. Written as temporary file, fsync, rename, with the previous one kept; a file that cannot be
//! read is set aside, never deleted, and the previous one is used, loudly.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::os::clock;
use crate::paths::Home;
use crate::protocol::Refusal;
use crate::supervisor::Snapshot;

/// Writes what `save` asks for, and keeps the list before it as backup.
pub fn save(home: &Home, snapshot: &Snapshot) -> Result<PathBuf, Refusal> {
    let path = home.dump_file();
    keep_backup(&path, &home.dump_backup())
        .and_then(|()| write(&path, snapshot))
        .map_err(|error| failed("writing", &path, &error))?;
    Ok(path)
}

/// Writes the list as it is when the daemon is told to end.
pub fn save_last(home: &Home, snapshot: &Snapshot) -> io::Result<()> {
    write(&home.last_state(), snapshot)
}

/// What `resurrect` brings back: the saved list, else its backup, else the list when the daemon last ended. Notes tell
/// of what could not be used.
pub fn load(home: &Home) -> Result<(Snapshot, Vec<String>), Refusal> {
    let mut notes = Vec::new();
    for path in [home.dump_file(), home.dump_backup(), home.last_state()] {
        match read(&path) {
            Ok(Some(snapshot)) => return Ok((snapshot, notes)),
            Ok(None) => {}
            Err(why) => notes.push(set_aside(&path, &why)),
        }
    }
    match notes.is_empty() {
        true => Err(Refusal::NothingSaved { path: home.dump_file().display().to_string() }),
        false => Err(Refusal::Failed { doing: "reading the saved list".into(), error: notes.join("; ") }),
    }
}

fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Created with mode 0600: it holds environments.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, snapshot)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// The backup is another name of the old file, so that at no instant neither exists.
fn keep_backup(path: &Path, backup: &Path) -> io::Result<()> {
    let spare = backup.with_extension("new");
    let _ = fs::remove_file(&spare);
    match fs::hard_link(path, &spare) {
        Ok(()) => fs::rename(&spare, backup),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Option<Snapshot>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if snapshot.version > Snapshot::VERSION {
        return Err(format!("it was written by a later version (format {})", snapshot.version));
    }
    Ok(Some(snapshot))
}

fn set_aside(path: &Path, why: &str) -> String {
    let aside = path.with_extension(format!("broken-{}", clock::epoch_ms()));
    let note = match fs::rename(path, &aside) {
        Ok(()) => format!("{} could not be used ({why}); it was set aside as {}", path.display(), aside.display()),
        Err(error) => format!("{} could not be used ({why}) nor set aside ({error})", path.display()),
    };
    tracing::warn!("{note}");
    note
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::Failed { doing: format!("{verb} {}", path.display()), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        (folder, home)
    }

    fn marked(version: u32) -> Snapshot {
        Snapshot { version, apps: vec![] }
    }

    #[test]
    fn what_is_saved_comes_back_and_is_private() {
        let (_folder, home) = home();
        let path = save(&home, &marked(1)).unwrap();
        assert_eq!(load(&home).unwrap(), (marked(1), vec![]));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_set_aside_and_the_one_before_is_used() {
        let (folder, home) = home();
        save(&home, &marked(0)).unwrap();
        save(&home, &marked(1)).unwrap();
        fs::write(home.dump_file(), "{\"version\": 1, \"app").unwrap();
        let (snapshot, notes) = load(&home).unwrap();
        assert_eq!(snapshot, marked(0));
        assert!(notes[0].contains("set aside"), "{notes:?}");
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().any(|name| name.to_string_lossy().contains("broken-")), "{names:?}");
    }

    #[test]
    fn a_later_format_is_not_guessed_at() {
        let (_folder, home) = home();
        save(&home, &marked(Snapshot::VERSION + 1)).unwrap();
        assert!(matches!(load(&home), Err(Refusal::Failed { .. })));
    }

    #[test]
    fn nothing_saved_says_where_it_looked_and_the_last_state_is_the_last_resort() {
        let (_folder, home) = home();
        assert!(matches!(load(&home), Err(Refusal::NothingSaved { .. })));
        save_last(&home, &marked(1)).unwrap();
        assert_eq!(load(&home).unwrap().0, marked(1));
    }
}
