//! Finding programs: what may be executed, and what a name means in a PATH.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Whether it is a file that we may execute.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The program called `name` in `path`, a list of folders parted by colons. `cwd` is where relative ones start.
#[must_use]
pub fn in_path(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    path.split(':').map(|folder| cwd.join(folder).join(name)).find(|file| is_executable(file))
}

/// The file that `name` means: itself if it holds a slash, else the program of that name in `path`.
#[must_use]
pub fn find(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') { Some(cwd.join(name)) } else { in_path(name, path, cwd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path_given() {
        let found = |name: &str| find(name, "/nowhere:/usr/bin:/bin", Path::new("/tmp"));
        assert!(found("sh").is_some_and(|file| file.ends_with("bin/sh")));
        assert_eq!(found("no-such-program"), None);
        assert_eq!(found("./x"), Some(PathBuf::from("/tmp/./x")));
    }
}
