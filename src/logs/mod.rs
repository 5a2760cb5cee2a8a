//! Output of apps: from their pipes to files, and from files to people.
//!
//! ```text
//!  app ─pipe─► Dispatcher (one thread, epoll) ─► Pump::drain on a blocking thread ═splice═► LogFile
//!                                                                                             │
//!                                    `pmr logs`:  Follower (inotify) ─► Splitter ─► Format ◄──┘
//! ```
//!
//! Bytes never pass through the daemon's main thread: it hands the read end of a pipe over and is notified when the
//! pipe has ended. An app that prints nothing costs no thread, no buffer and no task. A disk that hangs stops only the
//! apps that write to it, because their pipes fill up. Bytes are not split into lines on the way to the file. No byte
//! is only in the daemon's memory, so the daemon can be killed at any time: the next one reads on where it stopped.
//!
//! Writing: [`LogFiles`], [`mod@file`], `append`, `pipe`, `pump`, `dispatch`, `line_search`, `line_counter`,
//! `line_inspector`. Reading: [`tail`], [`last_lines`], [`split`]. Showing: [`mod@format`], [`time_format`].

mod append;
mod dispatch;
pub mod file;
pub mod format;
pub mod last_lines;
mod line_counter;
mod line_inspector;
mod line_search;
mod pipe;
mod pump;
pub mod split;
pub mod tail;
pub mod time_format;
mod watch;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::os::thread_pool::Threads;
use dispatch::Dispatcher;
pub use file::LogFile;
pub use line_counter::LineCounter;
pub use line_search::LineSearch;
use pipe::Pipe;
use pump::Pump;

/// Limit of [`LogFiles::catch_up`].
const CATCH_UP: Duration = Duration::from_secs(2);

/// All log files that are written to, and the pumps that fill them. Cloning is cheap and gives the same registry.
#[derive(Clone)]
pub struct LogFiles {
    inner: Arc<Inner>,
}

struct Inner {
    /// Files by path, as long as a pump or a process holds them.
    open: Mutex<HashMap<PathBuf, Weak<LogFile>>>,
    dispatcher: Arc<Dispatcher>,
    threads: Threads,
}

/// One output of a process, and where its bytes go.
#[derive(Debug)]
pub struct Output {
    /// The read end of its pipe.
    pub pipe: OwnedFd,
    /// The log file; `None` discards the output.
    pub file: Option<Arc<LogFile>>,
    /// The search for the line that its health check waits for.
    pub awaited: Option<Arc<LineSearch>>,
    /// Counts its lines while a canary is judged.
    pub line_counter: Option<Arc<LineCounter>>,
}

/// A pump at work. Dropping it changes nothing: the pump goes on to the end of its pipe.
#[derive(Debug)]
pub struct Pumping(oneshot::Receiver<()>);

impl Pumping {
    /// Waits until the pipe has ended (every holder of its write end is gone) and all its bytes are in the file.
    pub async fn finished(self) {
        // An error means that the pump was dropped: the pipe has ended as well.
        let _ = self.0.await;
    }
}

impl LogFiles {
    /// An empty registry. Starts the thread that waits for output, which ends when the last clone is dropped.
    ///
    /// Pumps write on `threads`.
    ///
    /// # Errors
    /// When the process or system is out of file descriptors or threads.
    pub fn new(threads: Threads) -> io::Result<LogFiles> {
        let dispatcher = Dispatcher::start(threads.clone())?;
        Ok(LogFiles { inner: Arc::new(Inner { open: Mutex::default(), dispatcher, threads }) })
    }

    /// The file at `path`, shared by all callers with the same path. Touches no disk: the directory and the file are
    /// made at the first write, and again when that fails or when they were deleted.
    #[must_use]
    pub fn open(&self, path: &Path) -> Arc<LogFile> {
        let mut open = self.inner.lock_open();
        if let Some(file) = open.get(path).and_then(Weak::upgrade) {
            return file;
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(LogFile::new(path.to_owned()));
        open.insert(path.to_owned(), Arc::downgrade(&file));
        file
    }

    /// Moves the bytes of a pipe to the end of its file until the pipe ends. The process that writes to the pipe may
    /// have exited already: the bytes it left in the pipe are moved.
    ///
    /// # Errors
    /// When `output.pipe` is no pipe or cannot be watched: the system is out of memory or over its limit of watched
    /// descriptors.
    pub fn pump(&self, output: Output) -> io::Result<Pumping> {
        let mut pumping = self.pump_all([output])?;
        Ok(pumping.pop().expect("one pumping for one output"))
    }

    /// As [`LogFiles::pump`], for pipes that a dead daemon read before. Those that lead to the same file must come in
    /// one call: a line that the death of the daemon cut is completed first, and for that all pipes must be known
    /// before a byte is moved.
    ///
    /// # Errors
    /// As [`LogFiles::pump`]. The pipes before the one that failed are pumped, the others are closed.
    pub fn pump_all(&self, outputs: impl IntoIterator<Item = Output>) -> io::Result<Vec<Pumping>> {
        let prepared: io::Result<Vec<_>> = outputs.into_iter().map(prepare).collect();
        let watch = |(pump, pumping)| self.inner.dispatcher.add(pump).map(|()| pumping);
        prepared?.into_iter().map(watch).collect()
    }

    /// Closes every file, after an external rotation renamed them: once this returns, nothing more is written to the
    /// old files. The next write makes the new ones. No byte is lost or doubled.
    pub async fn reopen_all(&self) {
        let files: Vec<_> = self.inner.lock_open().values().filter_map(Weak::upgrade).collect();
        self.on_disk(move || {
            // Files on a disk that hangs come last, so that they delay only each other.
            let busy: Vec<_> = files.into_iter().filter(|file| !file.try_close()).collect();
            busy.iter().for_each(|file| file.close());
        })
        .await;
    }

    /// Waits until everything that was printed for the files that `concerned` selects is in them, `CATCH_UP` at most,
    /// because a disk may hang.
    pub async fn catch_up(&self, concerned: impl Fn(&Path) -> bool + Send + 'static) {
        let dispatcher = Arc::clone(&self.inner.dispatcher);
        let waiting = self.on_disk(move || {
            dispatcher.catch_up(CATCH_UP, |pump| pump.path().is_some_and(&concerned));
        });
        // All threads may wait for a disk that hangs.
        let _ = tokio::time::timeout(CATCH_UP, waiting).await;
    }

    /// Empties the files at `paths`, each after the write that is under way. Paths without a file are skipped.
    ///
    /// # Errors
    /// The first path that could not be truncated, after all were tried.
    pub async fn flush(&self, paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
        let files: Vec<_> = paths.iter().map(|path| self.open(path)).collect();
        self.on_disk(move || {
            let mut first_failure = Ok(());
            for file in files {
                if let Err(error) = file.truncate() {
                    first_failure = first_failure.and(Err((file.path().to_owned(), error)));
                }
            }
            first_failure
        })
        .await
    }

    /// Runs file work on a blocking thread.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.inner.threads.outcome(work).await.expect("file work does not panic")
    }
}

impl Inner {
    fn lock_open(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Weak<LogFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dispatcher.quit();
    }
}

fn prepare(Output { pipe, file, awaited, line_counter }: Output) -> io::Result<(Pump, Pumping)> {
    let (done, finished) = oneshot::channel();
    Ok((Pump::new(Pipe::new(pipe)?, file, (awaited, line_counter), done), Pumping(finished)))
}

#[cfg(test)]
mod tests;
