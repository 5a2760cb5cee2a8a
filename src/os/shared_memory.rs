//! Memory that several processes map, and that exists as long as its file is open in one of them.
//!
//! It is an array of atomic words: wherever a process that writes to it is killed, every word has a valid value.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array of words, all 0 at first. Pages that were never written to take no memory.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
    file: OwnedFd,
}

impl Words {
    /// Makes a new array of `count` words, in a file without a path.
    ///
    /// # Errors
    /// If there is no memory or descriptor to be had.
    pub fn new(name: &str, count: usize) -> io::Result<Words> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, (count * size_of::<AtomicU64>()) as u64)?;
        Words::open(file)
    }

    /// Maps the array in this file, which another process made.
    ///
    /// # Errors
    /// `InvalidData` if the file is empty; else those of `mmap(2)`.
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

    /// Number of words.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// One word.
    ///
    /// # Panics
    /// If the index is out of range.
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
    fn a_word_written_through_one_mapping_is_read_through_another() {
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
    fn an_empty_file_is_an_error() {
        let file = memfd_create("empty", MemfdFlags::CLOEXEC).unwrap();
        assert!(Words::open(file).is_err());
    }
}
