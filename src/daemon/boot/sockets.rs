//! Keeps the daemon reachable: the locked pid file, the folders of the home and the two sockets are made again when a
//! user or a program has deleted them, also when the whole home was deleted.
//!
//! A thread of its own does this, since all of it is work on a disk that may hang. It sleeps until the kernel reports
//! that something was deleted from the home. It sends the files and sockets it makes to God's thread.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;

use super::super::disk::home_dir;
use super::super::rpc::server;
use super::super::rpc::server::Acceptor;
use crate::keeper::{FdSlot, Ledger, SharedMemory};
use crate::os::fs::files;
use crate::paths::Home;

/// A deletion of several files is over when nothing was deleted for this time.
const QUIET_TIME: Duration = Duration::from_millis(200);
/// How often to check during a deletion whether the home itself still exists.
const HOME_CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// After a failure to make a file or socket, wait this long before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often to check the files where the kernel does not report deletions.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Device and inode of a file.
type Identity = (u64, u64);

/// A file or socket that was made again.
enum Made {
    Lock(File),
    Rpc(UnixListener),
    Events(UnixListener),
}

/// Starts the thread. The acceptors begin with the sockets given, and go over to a new one whenever the thread has made
/// one. With `prepare_home` the thread first makes the folders of the home, which this God has not done yet.
///
/// Must be called inside the runtime, on God's thread.
pub fn keep(
    home: Home,
    keeper: i32,
    prepare_home: bool,
    (ledger, shared_memory): (Ledger, Rc<SharedMemory>),
    (rpc, events): (tokio::net::UnixListener, tokio::net::UnixListener),
) -> io::Result<(SocketGuard, Acceptor, Acceptor)> {
    let (made, made_in) = unbounded_channel();
    let (new_rpc, rpc_in) = unbounded_channel();
    let (new_events, events_in) = unbounded_channel();
    Builder::new()
        .name("sockets".into())
        .stack_size(256 << 10)
        .spawn(move || SocketKeeper::new(home, keeper, made).run(prepare_home))?;
    let hand_over = tokio::task::spawn_local(use_made(made_in, ledger, shared_memory, new_rpc, new_events));
    Ok((
        SocketGuard { _hand_over: AbortOnDropHandle::new(hand_over) },
        Acceptor::new(rpc, rpc_in),
        Acceptor::new(events, events_in),
    ))
}

/// While it exists, deleted files are made again. Dropping it ends the thread.
pub struct SocketGuard {
    _hand_over: AbortOnDropHandle<()>,
}

/// Replaces the deleted lock and sockets in this process by those that were made. Ends with the thread, or with the
/// [`SocketGuard`].
async fn use_made(
    mut made: UnboundedReceiver<Made>,
    ledger: Ledger,
    shared_memory: Rc<SharedMemory>,
    rpc: UnboundedSender<tokio::net::UnixListener>,
    events: UnboundedSender<tokio::net::UnixListener>,
) {
    while let Some(made) = made.recv().await {
        let (name, socket, acceptor) = match made {
            Made::Lock(lock) => {
                let before = shared_memory.fd_slot(FdSlot::Lock);
                shared_memory.set_fd_slot(FdSlot::Lock, Some(OwnedFd::from(lock).into_raw_fd()));
                drop(before.and_then(files::take));
                continue;
            }
            Made::Rpc(socket) => ("rpc", socket, &rpc),
            Made::Events(socket) => ("pub", socket, &events),
        };
        match tokio::net::UnixListener::from_std(socket) {
            Ok(socket) => {
                ledger.keep(name, &socket);
                ledger.commit();
                // The acceptor exists until this process exits.
                let _ = acceptor.send(socket);
            }
            Err(error) => tracing::error!("the new socket `{name}` cannot be used: {error}"),
        }
    }
}

/// The state of the thread. Beside each path stands the identity of the file that the daemon has open; `None` if there
/// was none at the start.
struct SocketKeeper {
    home: Home,
    /// Pid of the keeper, which the pid file names.
    keeper: i32,
    made: UnboundedSender<Made>,
    lock: (PathBuf, Option<Identity>),
    rpc: (PathBuf, Option<Identity>),
    events: (PathBuf, Option<Identity>),
    /// The error that was logged last, `None` after a success: the same error is not logged twice in a row.
    last_error: Option<String>,
}

impl SocketKeeper {
    fn new(home: Home, keeper: i32, made: UnboundedSender<Made>) -> SocketKeeper {
        let with_identity = |path: PathBuf| {
            let identity = identity(&path);
            (path, identity)
        };
        let [lock, rpc, events] = [home.pid_file(), home.rpc_sock(), home.pub_sock()].map(with_identity);
        SocketKeeper { home, keeper, made, lock, rpc, events, last_error: None }
    }

    fn run(mut self, prepare_home: bool) {
        let mut restored = !prepare_home || self.try_restore();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        while !self.made.is_closed() {
            let watched = watch.as_ref().is_some_and(|watch| watch_root(watch, self.home.root()));
            if self.is_complete() && restored {
                wait(watch.as_ref(), if watched { None } else { Some(POLL_INTERVAL) });
                continue;
            }
            if !restored {
                wait(watch.as_ref(), Some(RETRY_DELAY));
            }
            self.wait_for_end_of_deletion(watch.as_ref());
            restored = self.made.is_closed() || self.try_restore();
        }
    }

    /// Waits while a deletion is under way: a file made in a folder that is being emptied would make `rm -r` fail. Once
    /// the home itself is gone, the wait ends at once, so that no other daemon makes the home before this one does. Not
    /// every file system reports that end, so the existence of the home is checked, too.
    fn wait_for_end_of_deletion(&self, watch: Option<&OwnedFd>) {
        let mut since = Instant::now();
        while since.elapsed() < QUIET_TIME && self.home.root().exists() {
            if wait(watch, Some(HOME_CHECK_INTERVAL)) {
                since = Instant::now();
            }
        }
    }

    /// True if the pid file and both sockets are there, and are the files that the daemon has open.
    fn is_complete(&self) -> bool {
        [&self.lock, &self.rpc, &self.events].iter().all(|(path, ours)| ours.is_some() && identity(path) == *ours)
    }

    /// Restores what is missing and logs a new error. Returns true on success.
    fn try_restore(&mut self) -> bool {
        match self.restore() {
            Ok(()) => {
                self.last_error = None;
                true
            }
            Err(error) => {
                if self.last_error.as_ref() != Some(&error) {
                    tracing::error!("{error}: the apps run on, and it is tried again");
                }
                self.last_error = Some(error);
                false
            }
        }
    }

    fn restore(&mut self) -> Result<(), String> {
        if identity(&self.lock.0).is_none() || self.lock.1 != identity(&self.lock.0) {
            let lock = home_dir::lock(&self.home, self.keeper)?;
            self.lock.1 = identity(&self.lock.0);
            self.hand_over(&self.lock.0, Made::Lock(lock));
        }
        home_dir::prepare(&self.home)?;
        for (socket, made) in [(&mut self.rpc, Made::Rpc as fn(UnixListener) -> Made), (&mut self.events, Made::Events)]
        {
            let (path, ours) = socket;
            if ours.is_none() || identity(path) != *ours {
                let listener = server::bind(path).map_err(home_dir::at(path))?;
                *ours = identity(path);
                tracing::warn!("{} was deleted and has been made again", path.display());
                // Fails only if God has ended.
                let _ = self.made.send(made(listener));
            }
        }
        Ok(())
    }

    fn hand_over(&self, path: &Path, made: Made) {
        tracing::warn!("{} was deleted and has been made again", path.display());
        // Fails only if God has ended.
        let _ = self.made.send(made);
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|known| (known.dev(), known.ino()))
}

/// Has the kernel report deletions in the folder, and the deletion of the folder itself. True if the kernel can.
fn watch_root(watch: &OwnedFd, root: &Path) -> bool {
    let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    inotify::add_watch(watch, root, gone | WatchFlags::ONLYDIR).is_ok()
}

/// Sleeps until something was deleted, or the time is over. True if something was deleted.
fn wait(watch: Option<&OwnedFd>, limit: Option<Duration>) -> bool {
    let Some(watch) = watch else {
        std::thread::sleep(limit.unwrap_or(POLL_INTERVAL));
        return false;
    };
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let deleted = poll(&mut [PollFd::new(watch, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    while events.next().is_ok() {}
    deleted
}
