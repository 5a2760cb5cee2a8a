//! The open files of this process by number: what they are, who inherits them, and taking over those of a predecessor.

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

/// What a number stands for. A number alone says little: it is given again as soon as it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// The descriptor.
    pub number: RawFd,
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an open file.
    pub fn of(file: impl AsFd) -> io::Result<FileId> {
        let file = file.as_fd();
        let known = rustix::fs::fstat(file)?;
        Ok(FileId { number: file.as_raw_fd(), device: known.st_dev, inode: known.st_ino })
    }
}

/// True if it is a socket.
#[must_use]
pub fn is_socket(file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|known| FileType::from_raw_mode(known.st_mode) == FileType::Socket)
}

/// Whether programs we execute get this file.
pub fn inherit(file: impl AsFd, wanted: bool) -> io::Result<()> {
    let flags = fcntl_getfd(&file)?;
    let flags = if wanted { flags - FdFlags::CLOEXEC } else { flags | FdFlags::CLOEXEC };
    Ok(fcntl_setfd(file, flags)?)
}

/// Lets programs we execute have the file of this number, whoever owns it here; nothing happens if there is none.
pub fn inherit_number(number: RawFd) {
    if number < 0 {
        return;
    }
    // SAFETY: borrowed for two calls that only look at and change a flag, and fail if no such file is open.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = inherit(file, true);
}

/// Takes over the descriptor of this number, as another process of the same table, or the program before `exec`, left
/// it; `None` if nothing is open there.
///
/// Nobody else in this process may own it.
pub fn take(number: RawFd) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: the number is not -1; borrowed for one call, which fails if no such file is open.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    // SAFETY: it is open, and by the caller's promise nobody here owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Looks at the file of this number, whoever owns it here; `None` if nothing is open there.
pub fn look_at<T>(number: RawFd, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let file = take(number)?;
    let seen = look(file.as_fd());
    // It stays its owner's.
    let _ = file.into_raw_fd();
    Some(seen)
}

/// Writes a pid to a pid file, in a form that is always as long: whoever reads finds the one before or this one, never
/// half of it.
pub fn write_pid(file: impl AsFd, pid: i32) -> io::Result<()> {
    let text = format!("{pid:<10}\n");
    rustix::io::pwrite(&file, text.as_bytes(), 0)?;
    Ok(rustix::fs::ftruncate(&file, text.len() as u64)?)
}

/// True if some process holds the lock that `File::lock` takes. Takes none itself, which could be in somebody's way.
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

/// Takes over every open file beyond the standard three, by number, but for those in `except`, which have owners.
///
/// To be called once, first thing in a process, before anything is opened. None of them is inherited by programs we
/// execute from then on.
pub fn claim(except: &[RawFd]) -> io::Result<BTreeMap<RawFd, OwnedFd>> {
    assert!(!CLAIMED.swap(true, Ordering::Relaxed), "open files can be claimed once");
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && !except.contains(number))
        .collect();
    // The folder itself was one of them, and is closed again.
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
    fn a_number_is_not_an_identity() {
        let first = fs::File::open("/dev/null").unwrap();
        let id = FileId::of(&first).unwrap();
        assert_eq!(id, FileId::of(&first).unwrap());
        let other = fs::File::open("/proc/self/stat").unwrap();
        assert_ne!(FileId { number: id.number, ..FileId::of(&other).unwrap() }, id);
    }

    #[test]
    fn a_lock_is_seen_without_taking_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_locked(&path));
        let file = fs::File::create(&path).unwrap();
        assert!(!is_locked(&path));
        file.lock().unwrap();
        assert!(is_locked(&path));
        drop(file);
        eventually("nobody has it any more", || !is_locked(&path));
    }

    #[test]
    fn what_is_not_open_cannot_be_taken() {
        assert!(take(-1).is_none());
        assert!(take(1_000_000).is_none());
        let file = fs::File::open("/dev/null").unwrap();
        inherit(&file, true).unwrap();
        assert!(!fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
    }
}
