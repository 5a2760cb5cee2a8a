//! Threads for work that may block for long: on files, whose disk may hang.
//!
//! A thread is started when there is more work than idle threads, and ends when it is idle for some time. Why not the
//! runtime's blocking threads: the runtime panics if the system refuses it a first thread. Here one thread is started
//! at the beginning and stays, so work for which no thread can be started waits for that one.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// Stack size in bytes: enough for calls on files, and for encoding a list of processes as JSON.
const STACK: usize = 512 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// A handle of a pool. All clones share the same threads, which end when the last clone is dropped.
#[derive(Clone)]
pub struct Threads(Arc<Owner>);

struct Owner(Arc<Shared>);

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<Queue>,
    /// Notified when work was added, and when the pool is closed.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Work that no thread has taken yet.
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// Starts a pool with one thread, which grows to at most `most` threads of this name. A thread that hangs for ever
    /// does not delay the work of the others.
    ///
    /// # Errors
    /// If the system refuses the first thread.
    pub fn start(name: &'static str, most: usize) -> io::Result<Threads> {
        let shared = Arc::new(Shared { name, most, state: Mutex::default(), changed: Condvar::new() });
        shared.add(&mut shared.lock(), true)?;
        Ok(Threads(Arc::new(Owner(shared))))
    }

    /// Runs `work` now, or as soon as a thread is free.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        let shared = &self.0.0;
        let mut state = shared.lock();
        state.waiting.push_back(Box::new(work));
        if state.waiting.len() <= state.idle {
            shared.changed.notify_one();
        } else if state.threads < shared.most {
            // If the system refuses a thread, one that has finished its work takes this.
            let _ = shared.add(&mut state, false);
        }
    }

    /// Runs `work` as [`Threads::run`] does, and waits for its result; `None` if it panicked.
    pub async fn outcome<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, result) = oneshot::channel();
        self.run(move || drop(sender.send(work())));
        result.await.ok()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn add(self: &Arc<Self>, state: &mut Queue, stays: bool) -> io::Result<()> {
        let this = Arc::clone(self);
        Builder::new().name(self.name.into()).stack_size(STACK).spawn(move || this.serve(stays))?;
        state.threads += 1;
        Ok(())
    }

    fn serve(&self, stays: bool) {
        let mut state = self.lock();
        loop {
            while let Some(work) = state.waiting.pop_front() {
                drop(state);
                // After a panic `Threads::outcome` returns `None`, since its sender was dropped.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && !stays && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn work_that_hangs_does_not_delay_the_work_of_other_threads() {
        let threads = Threads::start("test", 3).unwrap();
        let (done, finished) = mpsc::channel();
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        for _ in 0..2 {
            let hang = hang.clone();
            threads.run(move || {
                let _ = hang.lock().unwrap_or_else(PoisonError::into_inner).recv();
            });
        }
        for number in 0..100 {
            let done = done.clone();
            threads.run(move || done.send(number).unwrap());
        }
        let numbers: Vec<i32> = (0..100).map(|_| finished.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "in order, by the only thread that does not hang");
        drop(release);
    }

    #[test]
    fn a_single_thread_does_all_work_and_survives_a_panic() {
        let threads = Threads::start("test", 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let panicked = threads.outcome(|| std::panic::panic_any(()));
        assert_eq!(runtime.block_on(panicked), None::<()>);
        assert_eq!(runtime.block_on(threads.outcome(|| 7)), Some(7));
    }

    #[test]
    fn threads_end_with_the_last_handle_after_all_work_is_done() {
        let threads = Threads::start("test", 4).unwrap();
        let shared = Arc::clone(&threads.0.0);
        let (done, finished) = mpsc::channel();
        for _ in 0..20 {
            let done = done.clone();
            threads.run(move || done.send(()).unwrap());
        }
        drop((threads, done));
        assert_eq!(finished.iter().count(), 20);
        let start = std::time::Instant::now();
        while Arc::strong_count(&shared) > 1 {
            assert!(start.elapsed() < LONG, "threads are still there");
            std::thread::yield_now();
        }
    }
}
