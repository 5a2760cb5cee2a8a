//! Keeps the daemon within reach while it lives: the lock, the folders and the two sockets are made again when somebody
//! has deleted them, the whole home included.
//!
//! A thread of its own looks after that, since all of it is work on a disk that may hang. It sleeps until the kernel
//! tells that something was deleted from the home. What it makes it hands to God's thread.

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

/// Whoever deletes files in the home has come to an end when nothing was deleted for so long.
const QUIET: Duration = Duration::from_millis(200);
/// How often to look meanwhile whether the home itself is gone.
const GLANCE: Duration = Duration::from_millis(2);
/// What cannot be made at present is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// How often to look where the kernel cannot tell.
const LOOK: Duration = Duration::from_secs(10);

/// Device and inode.
type Identity = (u64, u64);

/// What was made again.
enum Made {
    Lock(File),
    Rpc(UnixListener),
    Events(UnixListener),
}

/// Starts the thread. The doors have the sockets that are there now, and later ones as they are made. With `furnish`
/// nobody has yet seen to the folders.
///
/// Must be called inside the runtime, on God's thread.
pub fn keep(
    home: Home,
    keeper: i32,
    furnish: bool,
    (ledger, shared_memory): (Ledger, Rc<SharedMemory>),
    (rpc, events): (tokio::net::UnixListener, tokio::net::UnixListener),
) -> io::Result<(SocketGuard, Acceptor, Acceptor)> {
    let (made, made_in) = unbounded_channel();
    let (rpc_anew, rpc_in) = unbounded_channel();
    let (events_anew, events_in) = unbounded_channel();
    Builder::new()
        .name("doors".into())
        .stack_size(256 << 10)
        .spawn(move || SocketKeeper::new(home, keeper, made).work(furnish))?;
    let hand_over = tokio::task::spawn_local(take_in(made_in, ledger, shared_memory, rpc_anew, events_anew));
    Ok((
        SocketGuard { _hand_over: AbortOnDropHandle::new(hand_over) },
        Acceptor::new(rpc, rpc_in),
        Acceptor::new(events, events_in),
    ))
}

/// Dropped, it lets the doors be: what is deleted from then on stays so.
pub struct SocketGuard {
    _hand_over: AbortOnDropHandle<()>,
}

/// Puts what was made in the place of what was deleted. Ends with the thread, or with the [`SocketGuard`].
async fn take_in(
    mut made: UnboundedReceiver<Made>,
    ledger: Ledger,
    shared_memory: Rc<SharedMemory>,
    rpc: UnboundedSender<tokio::net::UnixListener>,
    events: UnboundedSender<tokio::net::UnixListener>,
) {
    while let Some(made) = made.recv().await {
        let (name, socket, door) = match made {
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
                // Serves as long as we live.
                let _ = door.send(socket);
            }
            Err(error) => tracing::error!("the new socket `{name}` cannot be used: {error}"),
        }
    }
}

struct SocketKeeper {
    home: Home,
    keeper: i32,
    made: UnboundedSender<Made>,
    /// Paths that must be there, and what of ours is.
    lock: (PathBuf, Option<Identity>),
    rpc: (PathBuf, Option<Identity>),
    events: (PathBuf, Option<Identity>),
    /// What was said last of what does not work.
    complaint: Option<String>,
}

impl SocketKeeper {
    fn new(home: Home, keeper: i32, made: UnboundedSender<Made>) -> SocketKeeper {
        let with_identity = |path: PathBuf| {
            let there = identity(&path);
            (path, there)
        };
        let [lock, rpc, events] = [home.pid_file(), home.rpc_sock(), home.pub_sock()].map(with_identity);
        SocketKeeper { home, keeper, made, lock, rpc, events, complaint: None }
    }

    fn work(mut self, furnish: bool) {
        let mut well = !furnish || self.make_well();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        while !self.made.is_closed() {
            let watched = watch.as_ref().is_some_and(|watch| watch_root(watch, self.home.root()));
            if self.is_whole() && well {
                wait(watch.as_ref(), if watched { None } else { Some(LOOK) });
                continue;
            }
            if !well {
                wait(watch.as_ref(), Some(AGAIN));
            }
            self.let_finish(watch.as_ref());
            well = self.made.is_closed() || self.make_well();
        }
    }

    /// Waits while somebody is deleting: in a folder that is being emptied, what is made would be in the way. Once the
    /// folder is gone nobody else may be faster to make it; not every file system tells of that.
    fn let_finish(&self, watch: Option<&OwnedFd>) {
        let mut since = Instant::now();
        while since.elapsed() < QUIET && self.home.root().exists() {
            if wait(watch, Some(GLANCE)) {
                since = Instant::now();
            }
        }
    }

    fn is_whole(&self) -> bool {
        [&self.lock, &self.rpc, &self.events].iter().all(|(path, ours)| ours.is_some() && identity(path) == *ours)
    }

    /// True if all is there now.
    fn make_well(&mut self) -> bool {
        match self.restore() {
            Ok(()) => {
                self.complaint = None;
                true
            }
            Err(error) => {
                if self.complaint.as_ref() != Some(&error) {
                    tracing::error!("{error}: apps run on; it is tried again");
                }
                self.complaint = Some(error);
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
        home_dir::furnish(&self.home)?;
        for (socket, made) in [(&mut self.rpc, Made::Rpc as fn(UnixListener) -> Made), (&mut self.events, Made::Events)]
        {
            let (path, ours) = socket;
            if ours.is_none() || identity(path) != *ours {
                let listener = server::bind(path).map_err(home_dir::at(path))?;
                *ours = identity(path);
                tracing::warn!("{} was deleted, and is there again", path.display());
                // God has ended if nobody takes it.
                let _ = self.made.send(made(listener));
            }
        }
        Ok(())
    }

    fn hand_over(&self, path: &Path, made: Made) {
        tracing::warn!("{} was deleted, and is there again", path.display());
        // God has ended if nobody takes it.
        let _ = self.made.send(made);
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|known| (known.dev(), known.ino()))
}

/// True if the kernel tells of what is deleted there, and of the end of the folder itself.
fn watch_root(watch: &OwnedFd, root: &Path) -> bool {
    let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    inotify::add_watch(watch, root, gone | WatchFlags::ONLYDIR).is_ok()
}

/// Sleeps until something was deleted, or the time is over. True if something was.
fn wait(watch: Option<&OwnedFd>, limit: Option<Duration>) -> bool {
    let Some(watch) = watch else {
        std::thread::sleep(limit.unwrap_or(LOOK));
        return false;
    };
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let told = poll(&mut [PollFd::new(watch, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    while events.next().is_ok() {}
    told
}
