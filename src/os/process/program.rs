//! Finding programs by name in a PATH, and executing them.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The folders in which programs are searched if an environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// True for a file that this process may execute.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The program called `name` in `path`, a list of folders separated by colons. Relative folders are below `cwd`.
#[must_use]
pub fn in_path(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    path.split(':').map(|folder| cwd.join(folder).join(name)).find(|file| is_executable(file))
}

/// The file that `name` stands for: the path itself if it contains a slash, else the program of that name in `path`.
#[must_use]
pub fn find(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') { Some(cwd.join(name)) } else { in_path(name, path, cwd) }
}

/// Executes the program in an open file, with the environment of this process. Returns only if that fails.
pub fn execute(program: impl AsFd, args: &[&OsStr]) -> io::Error {
    let c_string = |text: &OsStr| CString::new(text.as_bytes());
    let args: Result<Vec<CString>, _> = args.iter().map(|arg| c_string(arg)).collect();
    let env = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        c_string(&entry)
    });
    match (args, env.collect::<Result<Vec<CString>, _>>()) {
        (Ok(args), Ok(env)) => match nix::unistd::fexecve(program, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        _ => io::ErrorKind::InvalidInput.into(),
    }
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
