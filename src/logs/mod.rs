//! What apps print: from their pipes to files, and from files to people.
//!
//! ```text
//!  app ─pipe─► Dispatcher (one thread, epoll) ─► Pump::drain on a blocking thread ═splice═► LogFile
//!                                                                                             │
//!                                    `pmr logs`:  Follower (inotify) ─► Splitter ─► Format ◄──┘
//! ```
//!
//! Bytes never pass through the daemon's main thread: it hands the read end of a pipe over and is notified when
//! the pipe has ended. An app that prints nothing costs no thread, no buffer and no task; a disk that hangs stops the
//! apps that write to it (their pipes fill up) and nobody else. Nothing is done line by line on the way to the file. No
//! byte is in the daemon's memory only, so it can be killed at any time: its successor reads on where it stopped.
//!
//! Writing: [`LogFiles`], [`mod@file`], `append`, `pipe`, `pump`, `dispatch`, `awaited`,
//! `line_counter`, `line_inspector`. Reading: [`tail`],
//! [`last_lines`], [`split`]. Showing: [`mod@format`], [`time_format`].

mod append;
mod awaited;
mod dispatch;
pub mod file;
pub mod format;
pub mod last_lines;
mod line_counter;
mod line_inspector;
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
pub use awaited::AwaitedLine;
use dispatch::Dispatcher;
pub use file::LogFile;
pub use line_counter::LineCounter;
use pipe::Pipe;
use pump::Pump;

/// How long is waited for output that is on its way to its file.
const CATCH_UP: Duration = Duration::from_secs(2);

/// All log files that are written to, and the pumps that fill them. Cloning is cheap and gives the same registry.
#[derive(Clone)]
pub struct LogFiles {
    inner: Arc<Inner>,
}

struct Inner {
    /// Files by path, as long as somebody holds them.
    open: Mutex<HashMap<PathBuf, Weak<LogFile>>>,
    dispatcher: Arc<Dispatcher>,
    threads: Threads,
}

/// What a process prints, and what is to become of it.
#[derive(Debug)]
pub struct Output {
    /// The read end of its pipe.
    pub pipe: OwnedFd,
    /// The log file; `None` discards the output.
    pub file: Option<Arc<LogFile>>,
    /// The line its health check waits for.
    pub awaited: Option<Arc<AwaitedLine>>,
    /// Counts its lines.
    pub tally: Option<Arc<LineCounter>>,
}

/// A pump at work. Dropping it changes nothing: the pump goes on to the end of its pipe.
#[derive(Debug)]
pub struct Pumping(oneshot::Receiver<()>);

impl Pumping {
    /// Waits until the pipe has ended (every holder of its write end is gone) and all its bytes are in the file.
    pub async fn finished(self) {
        // An error means that the pump is gone, which means the same.
        let _ = self.0.await;
    }
}

impl LogFiles {
    /// An empty registry. Starts the one thread that waits for output; it ends when the last clone is dropped.
    ///
    /// The writing is done on `threads`.
    ///
    /// # Errors
    /// When the process or system is out of file descriptors or threads.
    pub fn new(threads: Threads) -> io::Result<LogFiles> {
        let dispatcher = Dispatcher::start(threads.clone())?;
        Ok(LogFiles { inner: Arc::new(Inner { open: Mutex::default(), dispatcher, threads }) })
    }

    /// The file at `path`, shared by all who ask for the same path. Touches no disk: the directory and the file are
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

    /// Moves what comes out of a pipe to the end of its file until the pipe ends. The process on the other side may be
    /// gone by then: what it left in the pipe is kept.
    ///
    /// # Errors
    /// When it is no pipe, or cannot be watched: the system is out of memory or over its limit of watched descriptors.
    pub fn pump(&self, output: Output) -> io::Result<Pumping> {
        let mut pumping = self.pump_all([output])?;
        Ok(pumping.pop().expect("one for each pipe"))
    }

    /// As [`LogFiles::pump`], for pipes that a dead daemon read before. Those that lead to the same file must come in
    /// one call: a line that the death cut is completed first, and for that all must be known before a byte is moved.
    ///
    /// # Errors
    /// As there. The pipes before the one that failed are at work, the others are closed.
    pub fn pump_all(&self, outputs: impl IntoIterator<Item = Output>) -> io::Result<Vec<Pumping>> {
        let prepared: io::Result<Vec<_>> = outputs.into_iter().map(prepare).collect();
        let watch = |(pump, pumping)| self.inner.dispatcher.add(pump).map(|()| pumping);
        prepared?.into_iter().map(watch).collect()
    }

    /// Lets go of every file, after an external rotation renamed them: once this returns, nothing more is written to
    /// the old ones. The new ones are made at the next write. No byte is lost or doubled.
    pub async fn reopen_all(&self) {
        let files: Vec<_> = self.inner.lock_open().values().filter_map(Weak::upgrade).collect();
        self.on_disk(move || {
            // Those on a disk that hangs come last, so that they hold up only each other.
            let busy: Vec<_> = files.into_iter().filter(|file| !file.try_close()).collect();
            busy.iter().for_each(|file| file.close());
        })
        .await;
    }

    /// Waits until what has been printed for those files is in them, two seconds at most: a disk may hang.
    pub async fn catch_up(&self, concerned: impl Fn(&Path) -> bool + Send + 'static) {
        let dispatcher = Arc::clone(&self.inner.dispatcher);
        let waiting = self.on_disk(move || {
            dispatcher.catch_up(CATCH_UP, |pump| pump.path().is_some_and(&concerned));
        });
        // All threads may hang there.
        let _ = tokio::time::timeout(CATCH_UP, waiting).await;
    }

    /// Empties the files at `paths`, in order with what is being written to them. A file that does not exist is fine.
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

    /// File work, away from the main thread.
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

fn prepare(Output { pipe, file, awaited, tally }: Output) -> io::Result<(Pump, Pumping)> {
    let (done, finished) = oneshot::channel();
    Ok((Pump::new(Pipe::new(pipe)?, file, (awaited, tally), done), Pumping(finished)))
}

#[cfg(test)]
mod tests;
