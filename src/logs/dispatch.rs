//! The one thread that waits for output, of all apps together.
//!
//! Why not the runtime's own readiness: it is edge-triggered, so each write of a busy app would wake the daemon's main
//! thread, even while the pipe is being drained. Here a pipe is armed for one event, stays silent while a blocking
//! thread drains it, and is armed again by that thread. The main thread never hears of it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tokio::runtime::Handle;

use super::file::Writer;
use super::pump::{Drained, Pump};

/// What the event of `quit` carries; pumps count from 1.
const QUIT: u64 = 0;
/// Enough for a thread that calls three functions.
const STACK: usize = 64 << 10;

pub(super) struct Dispatcher {
    epoll: OwnedFd,
    quit: OwnedFd,
    pumps: Mutex<HashMap<Writer, Arc<Pump>>>,
    next: AtomicU64,
    runtime: Handle,
}

impl Dispatcher {
    /// Starts the thread. Draining is done on the blocking threads of `runtime`.
    pub(super) fn start(runtime: Handle) -> io::Result<Arc<Dispatcher>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let quit = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &quit, EventData::new_u64(QUIT), EventFlags::IN)?;
        let pumps = Mutex::default();
        let dispatcher = Arc::new(Dispatcher { epoll, quit, pumps, next: AtomicU64::new(QUIT + 1), runtime });
        let this = dispatcher.clone();
        std::thread::Builder::new().name("logs".into()).stack_size(STACK).spawn(move || this.run())?;
        Ok(dispatcher)
    }

    /// Watches the pipe of the pump that `make` returns for its number.
    pub(super) fn add(&self, make: impl FnOnce(Writer) -> Pump) -> io::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let pump = make(id);
        // Under the lock, so that an event that comes at once finds the pump in the table.
        let mut pumps = self.lock_pumps();
        epoll::add(&self.epoll, pump.pipe(), EventData::new_u64(id), Self::armed())?;
        pumps.insert(id, Arc::new(pump));
        Ok(())
    }

    /// Ends the thread.
    pub(super) fn quit(&self) {
        // Can fail only when the counter is full, and then the thread is awake already.
        let _ = rustix::io::write(&self.quit, &1u64.to_ne_bytes());
    }

    fn run(self: Arc<Self>) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for the output of apps any more");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    QUIT => return,
                    id => self.hand_out(id),
                }
            }
        }
    }

    fn hand_out(self: &Arc<Self>, id: Writer) {
        let Some(pump) = self.lock_pumps().get(&id).cloned() else { return };
        let this = self.clone();
        self.runtime.spawn_blocking(move || this.serve(id, &pump));
    }

    fn serve(&self, id: Writer, pump: &Pump) {
        let ended = match pump.drain() {
            Drained::Ended => true,
            Drained::ForNow => {
                let armed = epoll::modify(&self.epoll, pump.pipe(), EventData::new_u64(id), Self::armed());
                armed.inspect_err(|error| tracing::error!(%error, "cannot watch an app's output any more")).is_err()
            }
        };
        if ended {
            // Fails only if it was not watched, which is what is wanted.
            let _ = epoll::delete(&self.epoll, pump.pipe());
            self.lock_pumps().remove(&id);
        }
    }

    fn armed() -> EventFlags {
        EventFlags::IN | EventFlags::ONESHOT
    }

    fn lock_pumps(&self) -> MutexGuard<'_, HashMap<Writer, Arc<Pump>>> {
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
