//! Waits for files to change by inotify: no polling, and no wake-ups from files that are not followed.

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

/// The reason for which a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// A file changed, or the source can be read.
    Changed,
    /// The reader of the command's output has closed it.
    HungUp,
    /// The limit has passed.
    TimedOut,
}

/// Watched inodes, and for each of them the numbers of the files that follow it.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    followers: HashMap<i32, Vec<usize>>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Ok(Watch { inotify, followers: HashMap::new() }),
            Err(Errno::MFILE) => Err(io::Error::other(
                "too many programs of this user watch files: raise fs.inotify.max_user_instances, or use --nostream",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches the content of this very file, whatever its name becomes, for the followed file `number`.
    pub(super) fn watch_file(&mut self, file: &File, number: usize) -> io::Result<i32> {
        let flags = WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        self.add(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), flags, number)
    }

    /// Reports to `number` when `path` may have come to name another file: watches its folder or, as long as that does
    /// not exist, the nearest one above.
    pub(super) fn watch_name(&mut self, path: &Path, number: usize) -> io::Result<()> {
        let mut previous = None;
        loop {
            let nearest = self.watch_nearest(path, number)?;
            // A nearer folder may have been made before the watch was in place: repeat until the watch stays the same.
            if nearest == previous {
                return Ok(());
            }
            previous = nearest;
        }
    }

    fn watch_nearest(&mut self, path: &Path, number: usize) -> io::Result<Option<i32>> {
        // A socket has its name before it accepts connections. Its owner sets its mode once it does, which ATTRIB
        // reports.
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
        let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        for folder in path.ancestors().skip(1) {
            match self.add(folder, made | gone | WatchFlags::ONLYDIR, number) {
                Ok(watch) => return Ok(Some(watch)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn add(&mut self, path: &Path, flags: WatchFlags, number: usize) -> io::Result<i32> {
        let watch = match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => {
                return Err(io::Error::other("too many files are watched already: raise fs.inotify.max_user_watches"));
            }
            Err(error) => return Err(error.into()),
        };
        let followers = self.followers.entry(watch).or_default();
        if !followers.contains(&number) {
            followers.push(number);
        }
        Ok(watch)
    }

    /// The followed file `number` no longer needs this watch.
    pub(super) fn forget(&mut self, watch: i32, number: usize) {
        let Some(followers) = self.followers.get_mut(&watch) else { return };
        followers.retain(|other| *other != number);
        if followers.is_empty() {
            self.followers.remove(&watch);
            // The kernel drops the watch of a deleted file itself.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Reports what changed since the last call: the number of the file, or `None` for all files if the kernel's queue
    /// overflowed.
    pub(super) fn changes(&mut self, report: &mut dyn FnMut(Option<usize>, Change)) -> io::Result<()> {
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
                report(None, Change::Name);
            }
            let change = if flags == ReadFlags::MODIFY { Change::Bytes } else { Change::Name };
            for number in self.followers.get(&event.wd()).into_iter().flatten() {
                report(Some(*number), change);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.followers.remove(&event.wd());
            }
        }
    }

    /// Sleeps until a file changes, `source` can be read, `reader` hangs up, or the limit has passed.
    pub(super) fn wait(
        &self,
        source: Option<BorrowedFd<'_>>,
        reader: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> io::Result<WakeReason> {
        let limit = limit.map(|limit| Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut watched = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        watched.extend(source.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)));
        // Without requested events: poll reports errors and hang-ups in any case.
        watched.extend(reader.map(|reader| PollFd::from_borrowed_fd(reader, PollFlags::empty())));
        let count = match poll(&mut watched, limit.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => return Ok(WakeReason::Changed),
            Err(error) => return Err(error.into()),
        };
        let hung_up = reader.is_some() && watched.last().is_some_and(|reader| !reader.revents().is_empty());
        Ok(match (count, hung_up) {
            (0, _) => WakeReason::TimedOut,
            (_, true) => WakeReason::HungUp,
            (_, false) => WakeReason::Changed,
        })
    }
}
