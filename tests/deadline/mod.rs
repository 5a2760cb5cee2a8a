//! A time limit for each test. A test holds a [`Deadline`]; one thread of the test binary looks at all of them.
//!
//! When a test takes longer than its limit, the thread writes the state of its home to stderr (list, processes, end of
//! the daemon's log) and kills what belongs to the test, so that whatever the test waits for fails. A test that
//! has not ended [`GRACE`] later hangs: the thread names it and aborts the binary.
//!
//! Output goes to stderr directly: what a thread other than the test's prints is not captured anyway.

mod state;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Limit of a test that does not set one.
const LIMIT: Duration = Duration::from_secs(120);
/// Time that a test has to fail after the processes it waits for were killed.
const GRACE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A running test.
#[derive(Clone)]
struct Watched {
    name: String,
    thread: ThreadId,
    /// Kernel thread id of that thread: the processes that it started are its children.
    tid: i32,
    /// Processes that name this folder in arguments or environment belong to the test.
    scratch: Option<PathBuf>,
    /// `PMR_HOME` of the test, which has the daemon's log.
    home: Option<PathBuf>,
    start: Instant,
    limit: Duration,
    /// When the watchdog found that the limit had passed.
    over: Option<Instant>,
}

static ALL: Mutex<BTreeMap<u64, Watched>> = Mutex::new(BTreeMap::new());

fn all() -> MutexGuard<'static, BTreeMap<u64, Watched>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time limit of the current test, from its creation until it is dropped. When the limit has passed, dropping it
/// fails the test.
pub struct Deadline(u64);

impl Deadline {
    /// For a test without a home. `scratch` is the folder of the test, if it has one.
    #[allow(dead_code, reason = "not all targets that share this file have tests without a home")]
    pub fn new(scratch: Option<&Path>) -> Deadline {
        Deadline::start(scratch.map(Path::to_owned), None)
    }

    /// For a test with this `PMR_HOME`, which is in the scratch folder.
    #[allow(dead_code, reason = "not all targets that share this file have homes")]
    pub fn of_home(scratch: &Path, home: &Path) -> Deadline {
        Deadline::start(Some(scratch.to_owned()), Some(home.to_owned()))
    }

    fn start(scratch: Option<PathBuf>, home: Option<PathBuf>) -> Deadline {
        static WATCHDOG: Once = Once::new();
        WATCHDOG.call_once(|| drop(std::thread::spawn(watch)));
        let thread = std::thread::current();
        let watched = Watched {
            name: thread.name().unwrap_or("a thread of a test").to_owned(),
            thread: thread.id(),
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            scratch,
            home,
            start: Instant::now(),
            limit: LIMIT,
            over: None,
        };
        let mut all = all();
        let id = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(id, watched);
        Deadline(id)
    }

    /// Replaces the limit, for a test that takes longer or has to be shorter.
    #[allow(dead_code, reason = "not all targets that share this file have long tests")]
    pub fn limit(&self, limit: Duration) {
        if let Some(watched) = all().get_mut(&self.0) {
            watched.limit = limit;
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let watched = all().remove(&self.0);
        if let Some(Watched { name, limit, over: Some(_), .. }) = watched
            && !std::thread::panicking()
        {
            panic!("{name} took longer than {limit:?}");
        }
    }
}

/// True if the test of this thread has passed its limit. The processes that it waits for were killed.
#[allow(dead_code, reason = "not all targets that share this file wait for conditions")]
pub fn is_over() -> bool {
    let thread = std::thread::current().id();
    all().values().any(|watched| watched.thread == thread && watched.over.is_some())
}

/// The loop of the watchdog thread. It runs until the binary ends.
fn watch() {
    loop {
        std::thread::sleep(POLL_INTERVAL);
        let now = Instant::now();
        let hangs = |watched: &Watched| watched.over.is_some_and(|over| now - over > GRACE);
        // Not inside the condition of the `if`: the lock would be held in the block, which takes it again.
        let hanging = all().values().find(|watched| hangs(watched)).cloned();
        if let Some(hanging) = hanging {
            abort(&hanging);
        }
        for (id, watched) in late(now) {
            // The state is written before `over` is set: a test that sees its limit passed cleans up.
            print(&format!("{} has taken longer than {:?}:\n{}", watched.name, watched.limit, watched.state()));
            if let Some(watched) = all().get_mut(&id) {
                watched.over = Some(Instant::now());
            }
            watched.kill();
        }
    }
}

/// Tests whose limit has passed since the last look.
fn late(now: Instant) -> Vec<(u64, Watched)> {
    let is_late = |watched: &Watched| watched.over.is_none() && now - watched.start > watched.limit;
    all().iter().filter(|(_, watched)| is_late(watched)).map(|(id, watched)| (*id, watched.clone())).collect()
}

/// Ends the binary and all tests in it. The processes of all those tests are killed first.
fn abort(hanging: &Watched) -> ! {
    print(&format!("{} hangs, {GRACE:?} after all it started was killed; this test binary ends", hanging.name));
    let others: Vec<Watched> = all().values().cloned().collect();
    others.iter().for_each(Watched::kill);
    std::process::abort()
}

fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "TIME LIMIT: {text}");
}
