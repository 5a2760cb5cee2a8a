//! The thread that waits for output of all apps.
//!
//! The runtime's own readiness is edge-triggered, so each write of a busy app would wake the daemon's main thread, even
//! while the pipe is being drained. Here a pipe is armed for one event, stays silent while a blocking thread drains it,
//! and is armed again by that thread. The main thread is not involved.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pump::{Drained, Pump};
use crate::os::thread_pool::Threads;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Event data of `quit`.
const QUIT: u64 = 0;
/// Event data of `timer`. Pumps are numbered from the next number on.
const TIMER: u64 = 1;
/// Pause until pumps that hold back a line are drained again. An app whose write does not fit into its pipe behind a
/// line that is held back waits that long.
const RECHECK_HELD: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Enough for a thread that calls three functions.
const STACK: usize = 64 << 10;

pub(super) struct Dispatcher {
    epoll: OwnedFd,
    quit: OwnedFd,
    pumps: Mutex<HashMap<u64, Arc<Pump>>>,
    /// Signalled after each drain; [`Dispatcher::catch_up`] waits for it.
    served: Condvar,
    /// Runs while a pump holds back a line.
    timer: OwnedFd,
    /// Pumps that are drained when the timer fires.
    held: Mutex<HashSet<u64>>,
    next: AtomicU64,
    threads: Threads,
}

impl Dispatcher {
    /// Starts the thread. Draining is done on `threads`.
    pub(super) fn start(threads: Threads) -> io::Result<Arc<Dispatcher>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let quit = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &quit, EventData::new_u64(QUIT), EventFlags::IN)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        let (pumps, held, next) = (Mutex::default(), Mutex::default(), AtomicU64::new(TIMER + 1));
        let served = Condvar::new();
        let dispatcher = Arc::new(Dispatcher { epoll, quit, pumps, served, timer, held, next, threads });
        let this = dispatcher.clone();
        std::thread::Builder::new().name("logs".into()).stack_size(STACK).spawn(move || this.run())?;
        Ok(dispatcher)
    }

    /// Watches the pipe of the pump.
    pub(super) fn add(&self, pump: Pump) -> io::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // Under the lock, so that an event that comes at once finds the pump in the table.
        let mut pumps = self.lock_pumps();
        epoll::add(&self.epoll, pump.watched(), EventData::new_u64(id), Self::armed())?;
        pumps.insert(id, Arc::new(pump));
        Ok(())
    }

    /// Waits until each of the pumps that `concerned` selects had nothing left to move, `limit` at most.
    pub(super) fn catch_up(&self, limit: Duration, concerned: impl Fn(&Pump) -> bool) {
        let until = Instant::now() + limit;
        let mut pumps = self.lock_pumps();
        let mut behind: Vec<u64> = pumps.iter().filter(|(_, pump)| concerned(pump)).map(|(id, _)| *id).collect();
        loop {
            behind.retain(|id| pumps.get(id).is_some_and(|pump| pump.is_behind()));
            let left = until.saturating_duration_since(Instant::now());
            if behind.is_empty() || left.is_zero() {
                return;
            }
            pumps = self.served.wait_timeout(pumps, left).unwrap_or_else(PoisonError::into_inner).0;
        }
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
                    TIMER => self.recheck_held(),
                    id => self.hand_out(id),
                }
            }
        }
    }

    fn hand_out(self: &Arc<Self>, id: u64) {
        let Some(pump) = self.lock_pumps().get(&id).cloned() else { return };
        let this = self.clone();
        self.threads.run(move || this.serve(id, &pump));
    }

    fn serve(self: &Arc<Self>, id: u64, pump: &Pump) {
        self.drain(id, pump);
        // A thread in `catch_up` either checked before this lock, and is notified, or checks after it.
        drop(self.lock_pumps());
        self.served.notify_all();
    }

    fn drain(self: &Arc<Self>, id: u64, pump: &Pump) {
        let watched = match pump.drain() {
            Drained::TurnOver => return self.hand_out(id),
            Drained::Idle => epoll::modify(&self.epoll, pump.watched(), EventData::new_u64(id), Self::armed()),
            Drained::Held => self.hold(id, pump),
            Drained::Ended => return self.remove(id, pump),
        };
        if let Err(error) = watched {
            tracing::error!(%error, "cannot watch an app's output any more");
            self.remove(id, pump);
        }
    }

    /// Watches write events in place of the pipe, which would fire all the time because of the bytes that are held
    /// back. Also starts the timer: a write that is longer than the pipe causes no event before it is done.
    fn hold(&self, id: u64, pump: &Pump) -> rustix::io::Result<()> {
        match epoll::modify(&self.epoll, pump.watched(), EventData::new_u64(id), Self::armed()) {
            Err(Errno::NOENT) => {
                epoll::delete(&self.epoll, pump.pipe())?;
                epoll::add(&self.epoll, pump.watched(), EventData::new_u64(id), Self::armed())?;
            }
            result => result?,
        }
        let mut held = self.lock_held();
        if held.is_empty() {
            let once = Itimerspec { it_interval: Timespec::default(), it_value: RECHECK_HELD };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        }
        held.insert(id);
        Ok(())
    }

    fn recheck_held(self: &Arc<Self>) {
        // A failure means that the timer has been read already.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        let held = std::mem::take(&mut *self.lock_held());
        held.into_iter().for_each(|id| self.hand_out(id));
    }

    fn remove(&self, id: u64, pump: &Pump) {
        // Fails only if the pipe was not watched.
        let _ = epoll::delete(&self.epoll, pump.watched());
        self.lock_pumps().remove(&id);
    }

    fn armed() -> EventFlags {
        EventFlags::IN | EventFlags::ONESHOT
    }

    fn lock_held(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pumps(&self) -> MutexGuard<'_, HashMap<u64, Arc<Pump>>> {
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
