//! Finds the home of a command or daemon, and creates it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::failure::{Doing, Failure};
use crate::paths::Home;

/// `PMR_HOME`, else `~/.pmr`.
pub fn of_caller() -> Result<Home, Failure> {
    let chosen = std::env::var_os("PMR_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = match chosen {
        Some(root) => root,
        None => dirs::home_dir()
            .filter(|home| !home.as_os_str().is_empty())
            .map(|home| home.join(".pmr"))
            .ok_or_else(|| Failure::new("your home directory is not known").hint("set HOME or PMR_HOME"))?,
    };
    std::path::absolute(&root).map(Home::new).doing(|| format!("finding the home {}", root.display()))
}

/// The home of a daemon: the argument after `--home`.
#[must_use]
pub fn of_daemon(args: &[OsString]) -> Home {
    let root = args.iter().skip_while(|arg| *arg != "--home").nth(1).map(PathBuf::from);
    Home::new(root.unwrap_or_else(|| PathBuf::from("/nonexistent")))
}

/// Creates the home with mode 0700 if it does not exist. A home of another user is refused: a daemon of this user would
/// leave files there that its owner cannot remove.
pub fn prepare(home: &Home) -> Result<(), Failure> {
    let root = home.root();
    match fs::metadata(root) {
        Ok(found) => check_owner(root, found.uid()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(root).doing(|| format!("creating {}", root.display()))
        }
        Err(error) => Err(error).doing(|| format!("checking {}", root.display())),
    }
}

fn check_owner(root: &Path, owner: u32) -> Result<(), Failure> {
    let caller = nix::unistd::geteuid().as_raw();
    if owner == caller {
        return Ok(());
    }
    Err(Failure::new(format!("{} belongs to user {owner}, and you are user {caller}", root.display()))
        .hint("run the command as that user, or set PMR_HOME to a folder of your own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_home_is_for_its_owner_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().join("a/b"));
        prepare(&home).unwrap();
        assert_eq!(fs::metadata(home.root()).unwrap().mode() & 0o777, 0o700);
        prepare(&home).unwrap();
    }

    #[test]
    fn a_home_of_another_user_is_refused() {
        let failure = check_owner(Path::new("/x"), nix::unistd::geteuid().as_raw() + 1).unwrap_err();
        assert!(failure.message.starts_with("/x belongs to user "));
    }

    #[test]
    fn the_daemon_reads_its_home_from_its_arguments() {
        let args: Vec<OsString> = ["pmr", "__daemon", "--home", "/tmp/h"].map(OsString::from).to_vec();
        assert_eq!(of_daemon(&args).root(), Path::new("/tmp/h"));
    }
}
