//! Files that are replaced whole, in one step: at every instant, also after a power cut, the path has the old or the
//! new file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::super::clock;

/// Replaces the file at `path` with one that `write` fills: temporary file, fsync, rename. Only the owner may read and
/// write it. Returns the new file, positioned at its end.
///
/// # Errors
/// Those of `write`, and of the file system. The old file stays then.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Gives the file at `path` the additional name `second`, and replaces the file that has this name. `second` exists at
/// every instant, if it did before. A missing file is no error.
///
/// # Errors
/// Those of the file system.
pub fn keep_as(path: &Path, second: &Path) -> io::Result<()> {
    let spare = second.with_extension("new");
    let _ = fs::remove_file(&spare);
    match fs::hard_link(path, &spare) {
        Ok(()) => fs::rename(&spare, second)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // If both names stood for the same file already, rename does nothing and leaves the third name.
    let _ = fs::remove_file(&spare);
    Ok(())
}

/// A free name to which a broken file can be moved, so that it is neither read again nor lost.
#[must_use]
pub fn aside(path: &Path) -> PathBuf {
    let mut names = (clock::epoch_ms()..).map(|at| path.with_extension(format!("broken-{at}")));
    names.find(|name| !name.exists()).expect("there are more numbers than files")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        replace(&path, |file| file.write_all(b"one")).unwrap();
        let failed = replace(&path, |file| file.write_all(b"tw").and(Err(io::ErrorKind::StorageFull.into())));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_kept_file_has_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let (path, second) = (folder.path().join("x"), folder.path().join("x.bak"));
        keep_as(&path, &second).unwrap();
        assert!(!second.exists());
        for text in ["one", "two"] {
            fs::write(&path, text).unwrap();
            for _ in 0..2 {
                keep_as(&path, &second).unwrap();
            }
            assert_eq!(fs::read_to_string(&second).unwrap(), text);
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
