//! Memory that several processes see at once, and that outlives each of them as long as its file is open somewhere.
//!
//! It is an array of atomic words: whatever a process that was killed left half done in it, every word is a number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array of words, all 0 at first. Pages that nobody wrote to cost nothing.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
    file: OwnedFd,
}

impl Words {
    /// A new one of so many words, in a file without a name.
    pub fn new(name: &str, count: usize) -> io::Result<Words> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, (count * size_of::<AtomicU64>()) as u64)?;
        Words::open(file)
    }

    /// The one in this file, as another process made it.
    pub fn open(file: OwnedFd) -> io::Result<Words> {
        let length = usize::try_from(fstat(&file)?.st_size).unwrap_or(0);
        let count = length / size_of::<AtomicU64>();
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the shared memory is empty"));
        }
        // SAFETY: a mapping at an address of the kernel's choice touches nothing that is in use.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Words { start, count, file })
    }

    /// How many words.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// One word.
    ///
    /// # Panics
    /// If there are not that many.
    #[must_use]
    pub fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "word {index} of {}", self.count);
        // SAFETY: the mapping has `count` words, is aligned to a page, lives as long as `self`, and is only ever
        // accessed through atomics, for which every content is a valid value.
        unsafe { self.start.add(index).as_ref() }
    }
}

impl AsFd for Words {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `open`; references into it borrow `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let ours = Words::new("test", 1 << 20).unwrap();
        let theirs = Words::open(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        ours.at((1 << 20) - 1).store(7, Relaxed);
        drop(ours);
        assert_eq!(
            (theirs.count(), theirs.at(0).load(Relaxed), theirs.at((1 << 20) - 1).load(Relaxed)),
            (1 << 20, 0, 7)
        );
    }

    #[test]
    fn an_empty_file_is_no_memory() {
        let file = memfd_create("empty", MemfdFlags::CLOEXEC).unwrap();
        assert!(Words::open(file).is_err());
    }
}
