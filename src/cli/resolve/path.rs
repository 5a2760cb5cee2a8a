//! Makes paths absolute.

use std::path::{Component, Path, PathBuf};

use crate::spec::log_paths::expand_home;

/// `written` made absolute from `base`, with `~` expanded, and with `.` and `..` removed where that does not change the
/// file. Symbolic links are kept, so that a `current` link that changes is followed at the next start.
#[must_use]
pub fn absolute(written: &str, base: &Path, home: Option<&Path>) -> PathBuf {
    let path = base.join(expand_home(PathBuf::from(written), home));
    let tidy = tidied(&path);
    // `a/..` is another folder if `a` is a symbolic link.
    let same = || path.canonicalize().map_or(true, |real| tidy.canonicalize().is_ok_and(|tidy| tidy == real));
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !climbs || same() { tidy } else { path }
}

fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => tidy.push(part),
        }
    }
    tidy
}

/// The current directory by its name in the shell (PWD), which keeps symbolic links.
pub(super) fn logical(cwd: PathBuf, pwd: Option<&String>) -> PathBuf {
    match pwd.map(PathBuf::from) {
        Some(pwd) if pwd.is_absolute() && pwd.canonicalize().is_ok_and(|real| real == cwd) => pwd,
        _ => cwd,
    }
}
