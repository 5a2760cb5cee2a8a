//! The home folder of a daemon: the locked pid file, folders that only their owner can enter, and the drain preload that
//! Node workers load.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cluster;
use crate::os::fs::files;
use crate::os::process::identity;
use crate::paths::Home;

/// File name of the preload of Node workers, in the home's folder for it. The name changes with the version, since the
/// content may.
pub const PRELOAD_FILE: &str = concat!("drain-", env!("CARGO_PKG_VERSION"), ".cjs");

/// Locks the pid file, which makes the process of this pid the daemon of this home as long as the file is open.
pub fn lock(home: &Home, pid: i32) -> Result<File, String> {
    let root = home.root();
    make_private(root).map_err(at(root))?;
    let pid_file = home.pid_file();
    let lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&pid_file)
        .map_err(at(&pid_file))?;
    if lock.try_lock().is_err() {
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        return Err(format!("a daemon (pid {}) runs in {} already", pid.trim(), root.display()));
    }
    files::write_pid(&lock, pid).map_err(at(&pid_file))?;
    Ok(lock)
}

/// Makes the folders of the home, for their owner alone, and installs the preload.
pub fn prepare(home: &Home) -> Result<(), String> {
    for folder in [home.root().to_owned(), home.logs(), home.pids(), home.preload(), home.notify()] {
        make_private(&folder).map_err(at(&folder))?;
    }
    install_preload(&home.preload()).map(drop).map_err(at(&home.preload()))
}

/// Makes a folder that only its owner can enter; a folder that exists gets these permissions.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let known = fs::metadata(folder)?;
    if known.uid() != identity::uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Writes the preload of Node workers into a folder, unless it is there, and returns its path.
fn install_preload(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(PRELOAD_FILE);
    if fs::read(&path).is_ok_and(|installed| installed == cluster::PRELOAD.as_bytes()) {
        return Ok(path);
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(cluster::PRELOAD.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(&path)?;
    Ok(path)
}

/// Installs the preload for workers of other users, which cannot enter the home: in a folder that all users can read and
/// only root can change. Only a daemon of root has such workers.
pub fn install_public_preload() -> io::Result<PathBuf> {
    install_preload(make_public()?)
}

/// Makes the folder for files that processes of other users need: all users can read it, and only root can change it.
pub fn make_public() -> io::Result<&'static Path> {
    let folder = Path::new("/run/pmr");
    fs::DirBuilder::new().recursive(true).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Turns an error of the system into a sentence that begins with the path.
pub fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
