//! Having the system start pmr at boot: what the unit file says, and putting it in place.
//!
//! Prints nothing: questions and messages are the command line's.

pub mod systemd;
pub mod unit;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::os::process::program::is_executable;

/// Folders a unit's PATH always ends with.
const STANDARD: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Which of the two managers of a systemd system runs the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The system's: runs as the user it names, needs root to install.
    System,
    /// The user's own.
    User,
}

/// What a unit has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The user whose daemon and apps the unit starts.
    pub user: String,
    /// Home directory of that user.
    pub user_home: PathBuf,
    /// `PMR_HOME` of the daemon.
    pub pmr_home: PathBuf,
    /// Absolute path of pmr, one that outlives an update where there is such a path.
    pub program: PathBuf,
    /// Search path of the apps.
    pub path: String,
    /// Wait until the network is configured.
    pub wait_online: bool,
    /// The manager that gets the unit: the system's, or the user's own.
    pub scope: Scope,
    /// Name of the unit without `.service`.
    pub service: String,
}

/// The caller's PATH as far as it makes sense at boot: absolute folders, each once, the standard ones at the end.
#[must_use]
pub fn boot_path(path: &str) -> String {
    let mut folders: Vec<&str> = Vec::new();
    for folder in path.split(':').chain(STANDARD) {
        let folder = if folder.len() > 1 { folder.trim_end_matches('/') } else { folder };
        if folder.starts_with('/') && !folder.chars().any(char::is_control) && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.join(":")
}

/// The path to call `exe` by: an entry of PATH that leads to it, such as a symbolic link that an update turns to the
/// next version; the file itself if there is none.
#[must_use]
pub fn lasting_path(exe: &Path, path: &OsStr) -> PathBuf {
    let Ok(real) = exe.canonicalize() else {
        return exe.to_owned();
    };
    let entries = std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join("pmr"));
    let leads_here = |entry: &PathBuf| entry.canonicalize().is_ok_and(|target| target == real) && is_executable(entry);
    entries.into_iter().find(leads_here).unwrap_or(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_absolute_folders_are_kept_and_each_once() {
        let path = boot_path("/opt/node/bin:.:bin::/usr/bin/:/opt/node/bin:/a\nb");
        assert_eq!(path, "/opt/node/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin");
    }

    #[test]
    fn a_link_in_path_is_preferred_to_the_version_behind_it() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let (bin, version) = (root.join("bin"), root.join("pmr-1.2"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&version).unwrap();
        let exe = version.join("pmr");
        std::fs::write(&exe, "").unwrap();
        std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(lasting_path(&exe, bin.as_os_str()), exe);
        std::os::unix::fs::symlink(&exe, bin.join("pmr")).unwrap();
        assert_eq!(lasting_path(&exe, bin.as_os_str()), bin.join("pmr"));
    }
}
