//! Waiting for files to change, through inotify: no polling, and no wake-ups from files that nobody asked about.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// What may have happened to a followed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was written to or truncated.
    Bytes,
    /// Its path may name another file.
    Name,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something changed, or can be read.
    Changed,
    /// Nobody reads the output any more.
    HungUp,
    /// The time is over.
    TimedOut,
}

/// Watched inodes, and the numbers of the followed files they matter to.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    interested: HashMap<i32, Vec<usize>>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Ok(Watch { inotify, interested: HashMap::new() }),
            Err(Errno::MFILE) => Err(io::Error::other(
                "too many programs of this user watch files: raise fs.inotify.max_user_instances, or use --nostream",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells `who` about bytes in this very file, whatever its name becomes.
    pub(super) fn watch_file(&mut self, file: &File, who: usize) -> io::Result<i32> {
        let flags = WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        self.add(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), flags, who)
    }

    /// Tells `who` when `path` may have come to name another file: watches its folder or, as long as that does not
    /// exist, the nearest one above.
    pub(super) fn watch_name(&mut self, path: &Path, who: usize) -> io::Result<()> {
        let mut previous = None;
        loop {
            let nearest = self.watch_nearest(path, who)?;
            // A folder nearer to it may have been made before the watch stood: look again until nothing is new.
            if nearest == previous {
                return Ok(());
            }
            previous = nearest;
        }
    }

    fn watch_nearest(&mut self, path: &Path, who: usize) -> io::Result<Option<i32>> {
        // A socket has its name before it takes calls: who made it sets its mode when it does.
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
        let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        for folder in path.ancestors().skip(1) {
            match self.add(folder, made | gone | WatchFlags::ONLYDIR, who) {
                Ok(watch) => return Ok(Some(watch)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn add(&mut self, path: &Path, flags: WatchFlags, who: usize) -> io::Result<i32> {
        let watch = match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => {
                return Err(io::Error::other("too many files are watched already: raise fs.inotify.max_user_watches"));
            }
            Err(error) => return Err(error.into()),
        };
        let interested = self.interested.entry(watch).or_default();
        if !interested.contains(&who) {
            interested.push(who);
        }
        Ok(watch)
    }

    /// `who` is no longer interested.
    pub(super) fn forget(&mut self, watch: i32, who: usize) {
        let Some(interested) = self.interested.get_mut(&watch) else { return };
        interested.retain(|other| *other != who);
        if interested.is_empty() {
            self.interested.remove(&watch);
            // The kernel drops the watch of a deleted file itself.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Tells what changed since the last call. `None` for all: the kernel's queue was too short.
    pub(super) fn changes(&mut self, tell: &mut dyn FnMut(Option<usize>, Change)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                tell(None, Change::Name);
            }
            let change = if flags == ReadFlags::MODIFY { Change::Bytes } else { Change::Name };
            for who in self.interested.get(&event.wd()).into_iter().flatten() {
                tell(Some(*who), change);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.interested.remove(&event.wd());
            }
        }
    }

    /// Sleeps until something changes, `source` can be read, `reader` hangs up, or the time is over.
    pub(super) fn wait(
        &self,
        source: Option<BorrowedFd<'_>>,
        reader: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> io::Result<Woken> {
        let limit = limit.map(|limit| Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut watched = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        watched.extend(source.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)));
        // No event asked for: an error or a hang-up is told all the same.
        watched.extend(reader.map(|reader| PollFd::from_borrowed_fd(reader, PollFlags::empty())));
        let count = match poll(&mut watched, limit.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => return Ok(Woken::Changed),
            Err(error) => return Err(error.into()),
        };
        let hung_up = reader.is_some() && watched.last().is_some_and(|reader| !reader.revents().is_empty());
        Ok(match (count, hung_up) {
            (0, _) => Woken::TimedOut,
            (_, true) => Woken::HungUp,
            (_, false) => Woken::Changed,
        })
    }
}
