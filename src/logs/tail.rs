//! Follows many log files at once, for `pmr logs`.
//!
//! Each line is reported once and in the order of its file: through rotation by renaming (the old file is read to its
//! end, then the new one from its start), truncation, deletion, and for files that do not exist yet. Lines of different
//! files come in the order of the wake-ups: what an app wrote to stdout and to stderr within a moment may come swapped.
//!
//! Two cases cannot be detected and lose lines in the view, never in the files: a file that is truncated and grows past
//! its former length between two reads, and a file that is deleted before its last lines were read while it was not
//! followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::last_lines::start_of_last_lines;
use super::split::{Piece, Sink, Splitter};
use super::watch::{Change, Watch};

mod ends;

pub use super::watch::WakeReason;
pub use ends::Ends;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Bytes read from one file before the next file has its turn.
const TURN: u64 = 256 << 10;
/// Number of the path that wakes the follower without being read.
const WAKE_PATH: usize = usize::MAX;

/// Where in a file to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// At the last lines; their number.
    LastLines(usize),
    /// At the first byte after these ends.
    Since(&'a Ends),
}

/// Reads several files as they grow. Each file has a number, from 0 in order of [`Follower::add`].
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    files: Vec<Followed>,
    wake_path: Option<WakePath>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct WakePath {
    path: PathBuf,
    /// The path may lead through another folder now, which must be watched.
    moved: bool,
}

/// Receives what is new: the number of the file, and a line of it or a part of one.
pub type NumberedSink<'a> = &'a mut dyn FnMut(usize, Piece<'_>) -> io::Result<()>;

#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// The file being read, then those that got its name since.
    generations: VecDeque<Generation>,
    lines: Splitter,
    /// There may be bytes to read.
    dirty: bool,
    /// The path may name another file.
    renamed: bool,
}

#[derive(Debug)]
struct Generation {
    file: File,
    offset: u64,
    identity: (u64, u64),
    watch: i32,
    /// True once a file that is written to has replaced this one: no more bytes will be written to this one.
    is_complete: bool,
}

impl Follower {
    /// A follower without files.
    ///
    /// # Errors
    /// When the kernel allows this user no more watchers.
    pub fn new() -> io::Result<Follower> {
        Ok(Follower { watch: Watch::new()?, files: Vec::new(), wake_path: None, buffer: vec![0; BLOCK].into() })
    }

    /// Makes [`Follower::wait`] return also when a file at `path` is made, replaced, or has its mode set. The file is
    /// not read. Its folder need not exist.
    ///
    /// # Errors
    /// When the path cannot be watched.
    pub fn wake_for(&mut self, path: &Path) -> io::Result<()> {
        self.watch.watch_name(path, WAKE_PATH)?;
        self.wake_path = Some(WakePath { path: path.to_owned(), moved: false });
        Ok(())
    }

    /// Follows the file at `path`. A file that is made later is read from its first byte.
    ///
    /// # Errors
    /// When it exists and cannot be opened, or cannot be watched.
    pub fn add(&mut self, path: &Path, start: Start<'_>) -> io::Result<usize> {
        let number = self.files.len();
        self.files.push(Followed {
            path: path.to_owned(),
            generations: VecDeque::new(),
            lines: Splitter::default(),
            dirty: true,
            renamed: false,
        });
        self.open_new_generation(number).inspect_err(|_| self.files.truncate(number))?;
        if let Some(first) = self.files[number].generations.front_mut() {
            first.offset = match start {
                Start::LastLines(lines) => start_of_last_lines(&first.file, lines)?,
                Start::Since(ends) => ends.start_in(path, &first.file.metadata()?),
            };
        }
        Ok(number)
    }

    /// Reads a file to its present end.
    ///
    /// # Errors
    /// Those of the file and of the sink.
    pub fn catch_up(&mut self, number: usize, sink: Sink<'_>) -> io::Result<()> {
        let file = &mut self.files[number];
        let Some(first) = file.generations.front() else { return Ok(()) };
        let budget = first.file.metadata()?.len().saturating_sub(first.offset);
        file.read(budget, &mut self.buffer, &mut self.watch, number, sink)
    }

    /// Reads a turn of each file that has something new. True if there is more to read at once.
    ///
    /// # Errors
    /// Those of the files and of the sink.
    pub fn read(&mut self, sink: NumberedSink<'_>) -> io::Result<bool> {
        self.take_changes()?;
        let mut read_again = false;
        if let Some(wake_path) = &mut self.wake_path
            && std::mem::take(&mut wake_path.moved)
        {
            self.watch.watch_name(&wake_path.path, WAKE_PATH)?;
            // The file may have been made before the new watch was in place.
            read_again = true;
        }
        for number in 0..self.files.len() {
            if std::mem::take(&mut self.files[number].renamed) {
                self.open_new_generation(number)?;
            }
            let file = &mut self.files[number];
            if std::mem::take(&mut file.dirty) {
                let sink: Sink<'_> = &mut |piece| sink(number, piece);
                file.read(TURN, &mut self.buffer, &mut self.watch, number, sink)?;
            }
        }
        Ok(read_again || self.files.iter().any(|file| file.dirty))
    }

    /// Passes on lines that have begun and not ended.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn release(&mut self, sink: NumberedSink<'_>) -> io::Result<()> {
        for (number, file) in self.files.iter_mut().enumerate() {
            file.lines.release(&mut |piece| sink(number, piece))?;
        }
        Ok(())
    }

    /// Ends the last line of a file that will not be read any more.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self, number: usize, sink: Sink<'_>) -> io::Result<()> {
        self.files[number].lines.finish(sink)
    }

    /// True if the beginning of a line is held back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.files.iter().any(|file| file.lines.holds_back())
    }

    /// Sleeps until a file changes, `source` can be read or has ended, `reader` (the other side of the command's
    /// output) hangs up, or `limit` has passed.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(
        &self,
        source: Option<BorrowedFd<'_>>,
        reader: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> io::Result<WakeReason> {
        self.watch.wait(source, reader, limit)
    }

    fn take_changes(&mut self) -> io::Result<()> {
        let Follower { watch, files, wake_path, .. } = self;
        watch.changes(&mut |number, change| {
            if let (None | Some(WAKE_PATH), Some(wake_path)) = (number, &mut *wake_path) {
                wake_path.moved = true;
            }
            let touched = match number {
                Some(WAKE_PATH) => &mut [][..],
                Some(number) => &mut files[number..=number],
                None => &mut files[..],
            };
            for file in touched {
                file.dirty = true;
                file.renamed |= change == Change::Name;
            }
        })
    }

    /// Opens the file at the path, unless it is the one that is being read already.
    fn open_new_generation(&mut self, number: usize) -> io::Result<()> {
        let Follower { watch, files, .. } = self;
        let followed = &mut files[number];
        watch.watch_name(&followed.path, number)?;
        let file = match std::fs::metadata(&followed.path) {
            // Opening anything else (a FIFO, a device) could block.
            Ok(metadata) if metadata.is_file() => File::open(&followed.path),
            Ok(_) => return Ok(()),
            Err(error) => Err(error),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if followed.generations.back().is_some_and(|known| known.identity == identity) {
            return Ok(());
        }
        let watch = watch.watch_file(&file, number)?;
        followed.generations.push_back(Generation { file, offset: 0, identity, watch, is_complete: false });
        followed.dirty = true;
        Ok(())
    }
}

/// What to do when all bytes of a file were read.
enum AtEnd {
    ReadOn,
    StartOver,
    NextGeneration,
    Wait,
}

impl Followed {
    /// Reads up to `budget` bytes; stays dirty if that was not all.
    fn read(
        &mut self,
        mut budget: u64,
        buffer: &mut [u8],
        watch: &mut Watch,
        number: usize,
        sink: Sink<'_>,
    ) -> io::Result<()> {
        while let Some(current) = self.generations.front_mut() {
            let length = budget.min(buffer.len() as u64) as usize;
            let read = current.file.read_at(&mut buffer[..length], current.offset)?;
            if read > 0 {
                current.offset += read as u64;
                budget -= read as u64;
                self.lines.push(&buffer[..read], sink)?;
                continue;
            }
            if length == 0 {
                self.dirty = true;
                return Ok(());
            }
            match self.at_end()? {
                AtEnd::ReadOn => {}
                AtEnd::StartOver => self.lines.finish(sink)?,
                AtEnd::NextGeneration => {
                    let old = self.generations.pop_front().expect("the generation that was just read");
                    watch.forget(old.watch, number);
                }
                AtEnd::Wait => return Ok(()),
            }
        }
        Ok(())
    }

    fn at_end(&mut self) -> io::Result<AtEnd> {
        let successor_in_use = match self.generations.get(1) {
            Some(next) => self.generations.len() > 2 || next.file.metadata()?.len() > 0,
            None => false,
        };
        let current = self.generations.front_mut().expect("called while a generation is read");
        if current.file.metadata()?.len() < current.offset {
            current.offset = 0;
            return Ok(AtEnd::StartOver);
        }
        // The writer may still write to the old file after the new one was made, but not after it has written to the
        // new one: then one more read of the old one finds all its bytes.
        Ok(match (successor_in_use, current.is_complete) {
            (false, _) => AtEnd::Wait,
            (true, false) => {
                current.is_complete = true;
                AtEnd::ReadOn
            }
            (true, true) => AtEnd::NextGeneration,
        })
    }
}

#[cfg(test)]
mod tests;
