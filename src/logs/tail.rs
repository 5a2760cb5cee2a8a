//! Following many log files at once, the way `pmr logs` does.
//!
//! Each line comes once and in the order of its file, through rotation by renaming (the old file is read to its end,
//! then the new one from its start), truncation, deletion, and for files that do not exist yet. Between files there is
//! no order but that of the wake-ups: what an app wrote to stdout and to stderr within a moment may come swapped.
//!
//! Two things cannot be seen from outside and lose lines in the view, never in the files: a file that is truncated and
//! grows past its former length between two looks, and one that is deleted with lines in it that were not read yet
//! while nothing was following it.

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

pub use super::watch::Woken;
pub use ends::Ends;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Bytes one file may bring before the next has its turn.
const TURN: u64 = 256 << 10;
/// In place of a file's number: the name that is waited for without being read.
const AWAITED: usize = usize::MAX;

/// Where in a file to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// At the last so many lines.
    LastLines(usize),
    /// At what came since.
    Since(&'a Ends),
}

/// Several files, read as they grow. Files are known by number, from 0 in order of [`Follower::add`].
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    files: Vec<Followed>,
    awaited: Option<Awaited>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Awaited {
    path: PathBuf,
    /// The folder to watch may be another one now.
    moved: bool,
}

/// Takes what is new: the number of the file, and a line of it or a part of one.
pub type NumberedSink<'a> = &'a mut dyn FnMut(usize, Piece<'_>) -> io::Result<()>;

#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// The file being read, then those that took over its name since.
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
    /// It has been replaced by a file that is in use, so what it holds now is all it will ever hold.
    last_call: bool,
}

impl Follower {
    /// Follows nothing yet.
    ///
    /// # Errors
    /// When the kernel allows this user no more watchers.
    pub fn new() -> io::Result<Follower> {
        Ok(Follower { watch: Watch::new()?, files: Vec::new(), awaited: None, buffer: vec![0; BLOCK].into() })
    }

    /// Has [`Follower::wait`] also wake up when `path`, which is not read, may have come to name something or something
    /// else, or had its mode set. Its folder need not exist.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn wake_for(&mut self, path: &Path) -> io::Result<()> {
        self.watch.watch_name(path, AWAITED)?;
        self.awaited = Some(Awaited { path: path.to_owned(), moved: false });
        Ok(())
    }

    /// Follows the file at `path`. It need not exist; what comes to exist is read from its first byte.
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
        self.look_for_new(number).inspect_err(|_| self.files.truncate(number))?;
        if let Some(first) = self.files[number].generations.front_mut() {
            first.offset = match start {
                Start::LastLines(lines) => start_of_last_lines(&first.file, lines)?,
                Start::Since(ends) => ends.start_in(path, &first.file.metadata()?),
            };
        }
        Ok(number)
    }

    /// Reads a file to where it ends now.
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
        let mut look_again = false;
        if let Some(awaited) = &mut self.awaited
            && std::mem::take(&mut awaited.moved)
        {
            self.watch.watch_name(&awaited.path, AWAITED)?;
            // What is waited for may have come before the new watch stood.
            look_again = true;
        }
        for number in 0..self.files.len() {
            if std::mem::take(&mut self.files[number].renamed) {
                self.look_for_new(number)?;
            }
            let file = &mut self.files[number];
            if std::mem::take(&mut file.dirty) {
                let sink: Sink<'_> = &mut |piece| sink(number, piece);
                file.read(TURN, &mut self.buffer, &mut self.watch, number, sink)?;
            }
        }
        Ok(look_again || self.files.iter().any(|file| file.dirty))
    }

    /// Hands on lines that have begun and not ended.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn release(&mut self, sink: NumberedSink<'_>) -> io::Result<()> {
        for (number, file) in self.files.iter_mut().enumerate() {
            file.lines.release(&mut |piece| sink(number, piece))?;
        }
        Ok(())
    }

    /// Ends the last line of a file that will not be read on.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self, number: usize, sink: Sink<'_>) -> io::Result<()> {
        self.files[number].lines.finish(sink)
    }

    /// True if some line has begun and waits for its end.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.files.iter().any(|file| file.lines.holds())
    }

    /// Sleeps until a file changes, `source` has something to read or has ended, `reader` (the other side of our output)
    /// hangs up, or `limit` has passed.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(
        &self,
        source: Option<BorrowedFd<'_>>,
        reader: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> io::Result<Woken> {
        self.watch.wait(source, reader, limit)
    }

    fn take_changes(&mut self) -> io::Result<()> {
        let Follower { watch, files, awaited, .. } = self;
        watch.changes(&mut |who, change| {
            if let (None | Some(AWAITED), Some(awaited)) = (who, &mut *awaited) {
                awaited.moved = true;
            }
            let touched = match who {
                Some(AWAITED) => &mut [][..],
                Some(number) => &mut files[number..=number],
                None => &mut files[..],
            };
            for file in touched {
                file.dirty = true;
                file.renamed |= change == Change::Name;
            }
        })
    }

    /// Opens what the path names, unless it is what is being read already.
    fn look_for_new(&mut self, number: usize) -> io::Result<()> {
        let Follower { watch, files, .. } = self;
        let followed = &mut files[number];
        watch.watch_name(&followed.path, number)?;
        let file = match std::fs::metadata(&followed.path) {
            // Anything else (a FIFO, /dev/null) could block, and holds no lines.
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
        followed.generations.push_back(Generation { file, offset: 0, identity, watch, last_call: false });
        followed.dirty = true;
        Ok(())
    }
}

/// What to do at the end of a file's bytes.
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
                    let old = self.generations.pop_front().expect("the one that was just read");
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
        let current = self.generations.front_mut().expect("called while one is read");
        if current.file.metadata()?.len() < current.offset {
            current.offset = 0;
            return Ok(AtEnd::StartOver);
        }
        // The writer may still be busy with the old file after the new one was made, but not after it has written to
        // the new one: then one more look at the old one finds all there is.
        Ok(match (successor_in_use, current.last_call) {
            (false, _) => AtEnd::Wait,
            (true, false) => {
                current.last_call = true;
                AtEnd::ReadOn
            }
            (true, true) => AtEnd::NextGeneration,
        })
    }
}

#[cfg(test)]
mod tests;
