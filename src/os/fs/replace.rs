//! Files that are replaced whole, in one step: at every instant, and after a power cut, there is the old one or the new.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::super::clock;

/// Puts a file with what `write` writes in the place of the one at `path`: temporary file, fsync, rename. It is for its
/// owner alone. Returned open at its end.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Keeps a file under a second name in place of what is there. At no instant has it neither name. Nothing to keep is no
/// error.
pub fn keep_as(path: &Path, second: &Path) -> io::Result<()> {
    let spare = second.with_extension("new");
    let _ = fs::remove_file(&spare);
    match fs::hard_link(path, &spare) {
        Ok(()) => fs::rename(&spare, second)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // Where both were names of one file already, a rename does nothing.
    let _ = fs::remove_file(&spare);
    Ok(())
}

/// A free name for a file that cannot be used, so that it is not in the way and not lost.
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
    fn the_old_one_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        replace(&path, |file| file.write_all(b"one")).unwrap();
        let failed = replace(&path, |file| file.write_all(b"tw").and(Err(io::ErrorKind::StorageFull.into())));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_is_kept_has_both_names() {
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
