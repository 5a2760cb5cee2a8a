//! Threads for work that may take long: on files, whose disk may hang.
//!
//! They come when there is more to do than there are idle ones, and go again. Why not the runtime's: asked for work
//! when the system refuses a first thread, it panics. Here one is made at the start and stays, so what cannot have a
//! thread of its own waits for one.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a thread waits for more work before it goes.
const IDLE: Duration = Duration::from_secs(10);
/// Enough for calls on files, and for a list of processes made into JSON.
const STACK: usize = 512 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// A handle; all clones mean the same threads, which end with the last.
#[derive(Clone)]
pub struct Threads(Arc<Owner>);

struct Owner(Arc<Shared>);

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// The first of at most `most` threads of this name, each of which may hang for ever without holding up the others.
    ///
    /// # Errors
    /// When the system refuses that one thread.
    pub fn start(name: &'static str, most: usize) -> io::Result<Threads> {
        let shared = Arc::new(Shared { name, most, state: Mutex::default(), news: Condvar::new() });
        shared.add(&mut shared.lock(), true)?;
        Ok(Threads(Arc::new(Owner(shared))))
    }

    /// Has something done, now or as soon as a thread is free.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        let shared = &self.0.0;
        let mut state = shared.lock();
        state.waiting.push_back(Box::new(work));
        if state.waiting.len() <= state.idle {
            shared.news.notify_one();
        } else if state.threads < shared.most {
            // If there can be none, one that has finished takes it.
            let _ = shared.add(&mut state, false);
        }
    }

    /// The same, and waits for what comes of it; `None` if it panicked.
    pub async fn outcome<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (told, outcome) = oneshot::channel();
        self.run(move || drop(told.send(work())));
        outcome.await.ok()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.news.notify_all();
    }
}

impl Shared {
    fn add(self: &Arc<Self>, state: &mut State, stays: bool) -> io::Result<()> {
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
                // Whoever waits for the outcome finds that there is none.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.news.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && !stays && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn work_that_hangs_holds_up_nobody_while_there_are_threads() {
        let threads = Threads::start("test", 3).unwrap();
        let (done, told) = mpsc::channel();
        let (let_go, hang) = mpsc::channel::<()>();
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
        let numbers: Vec<i32> = (0..100).map(|_| told.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "in order, by the one thread that is left");
        drop(let_go);
    }

    #[test]
    fn with_one_thread_all_is_done_and_a_panic_costs_nothing_but_its_own_outcome() {
        let threads = Threads::start("test", 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let panicked = threads.outcome(|| std::panic::panic_any(()));
        assert_eq!(runtime.block_on(panicked), None::<()>);
        assert_eq!(runtime.block_on(threads.outcome(|| 7)), Some(7));
    }

    #[test]
    fn they_end_with_the_last_handle_and_finish_before_that() {
        let threads = Threads::start("test", 4).unwrap();
        let shared = Arc::clone(&threads.0.0);
        let (done, told) = mpsc::channel();
        for _ in 0..20 {
            let done = done.clone();
            threads.run(move || done.send(()).unwrap());
        }
        drop((threads, done));
        assert_eq!(told.iter().count(), 20);
        let start = std::time::Instant::now();
        while Arc::strong_count(&shared) > 1 {
            assert!(start.elapsed() < LONG, "threads live on");
            std::thread::yield_now();
        }
    }
}
