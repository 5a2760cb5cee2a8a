//! The open files of this process by number: their identity, whether they are inherited, and the takeover of those that
//! a predecessor left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use serde::{Deserialize, Serialize};

/// The identity of an open file. A number alone identifies nothing, since it is used again as soon as it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// The descriptor.
    pub number: RawFd,
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of an open file.
    ///
    /// # Errors
    /// That of `fstat(2)`.
    pub fn of(file: impl AsFd) -> io::Result<FileId> {
        let file = file.as_fd();
        let known = rustix::fs::fstat(file)?;
        Ok(FileId { number: file.as_raw_fd(), device: known.st_dev, inode: known.st_ino })
    }
}

/// True if the file is a socket.
#[must_use]
pub fn is_socket(file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|known| FileType::from_raw_mode(known.st_mode) == FileType::Socket)
}

/// Sets whether programs that this process executes inherit this file.
///
/// # Errors
/// None is known.
pub fn inherit(file: impl AsFd, wanted: bool) -> io::Result<()> {
    let flags = fcntl_getfd(&file)?;
    let flags = if wanted { flags - FdFlags::CLOEXEC } else { flags | FdFlags::CLOEXEC };
    Ok(fcntl_setfd(file, flags)?)
}

/// Has programs that this process executes inherit the file with this number. Does nothing if no file is open under it.
pub fn inherit_number(number: RawFd) {
    if number < 0 {
        return;
    }
    // SAFETY: borrowed for two calls that only read and change a flag, and fail if no such file is open.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = inherit(file, true);
}

/// Takes over the descriptor with this number, which another process with the same table, or the program before `exec`,
/// left open. `None` if no file is open under the number.
///
/// No value in this process may own the descriptor.
pub fn take(number: RawFd) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: the number is not -1; borrowed for one call, which fails if no such file is open.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    // SAFETY: it is open, and the caller promises that no value owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Calls `read` with the file that is open under this number, whatever value owns it; `None` if no file is open.
pub fn with_number<T>(number: RawFd, read: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let file = take(number)?;
    let result = read(file.as_fd());
    // Its owner closes it.
    let _ = file.into_raw_fd();
    Some(result)
}

/// Writes a pid to a pid file. The text always has the same length, so a reader finds the pid before or the new one,
/// never a part of it.
///
/// # Errors
/// Those of writing a file.
pub fn write_pid(file: impl AsFd, pid: i32) -> io::Result<()> {
    let text = format!("{pid:<10}\n");
    rustix::io::pwrite(&file, text.as_bytes(), 0)?;
    Ok(rustix::fs::ftruncate(&file, text.len() as u64)?)
}

/// True if a process holds the lock that `File::lock` takes. Does not take the lock, which could make another process
/// fail to take it.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    let Ok(known) = fs::metadata(path) else { return false };
    let end = format!(":{}", known.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holds = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.any(|word| word.ends_with(&end))
    };
    locks.lines().any(holds)
}

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// Takes over all open files beyond the standard three, by number, except those in `except`, which have owners.
/// Programs that this process executes do not inherit them from then on.
///
/// To be called once, at the start of a process, before any file is opened.
///
/// # Errors
/// If `/proc` cannot be read.
///
/// # Panics
/// On the second call.
pub fn claim(except: &[RawFd]) -> io::Result<BTreeMap<RawFd, OwnedFd>> {
    assert!(!CLAIMED.swap(true, Ordering::Relaxed), "open files can be claimed once");
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && !except.contains(number))
        .collect();
    // The folder `/proc/self/fd` was among them, and is closed by now.
    let mut files = BTreeMap::new();
    for number in numbers {
        if let Some(file) = take(number) {
            inherit(&file, false)?;
            files.insert(number, file);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::eventually::eventually;

    #[test]
    fn another_file_under_the_same_number_has_another_identity() {
        let first = fs::File::open("/dev/null").unwrap();
        let id = FileId::of(&first).unwrap();
        assert_eq!(id, FileId::of(&first).unwrap());
        let other = fs::File::open("/proc/self/stat").unwrap();
        assert_ne!(FileId { number: id.number, ..FileId::of(&other).unwrap() }, id);
    }

    #[test]
    fn a_held_lock_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_locked(&path));
        let file = fs::File::create(&path).unwrap();
        assert!(!is_locked(&path));
        file.lock().unwrap();
        assert!(is_locked(&path));
        drop(file);
        eventually("the lock is released", || !is_locked(&path));
    }

    #[test]
    fn a_number_without_an_open_file_cannot_be_taken() {
        assert!(take(-1).is_none());
        assert!(take(1_000_000).is_none());
        let file = fs::File::open("/dev/null").unwrap();
        inherit(&file, true).unwrap();
        assert!(!fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
    }
}
