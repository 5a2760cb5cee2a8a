//! Writing to a worker without ever waiting for it: now as far as it goes, the rest by a task as soon as the worker reads
//! on.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// Pause when the kernel has too many files of ours on their way.
const TOO_MANY_FILES: Duration = Duration::from_millis(10);

/// How far writing got.
pub(crate) enum Progress {
    /// All is written, or waits for the worker's word.
    Done,
    /// The socket is full.
    Full,
    /// The kernel wants us to come back later.
    Later,
}

/// A channel that has something to say.
pub(crate) trait Push: 'static {
    /// Where it goes.
    fn socket(&self) -> &AsyncFd<OwnedFd>;

    /// True while a task waits to go on writing.
    fn waiting(&self) -> &Cell<bool>;

    /// Writes what can be written. Never sleeps.
    fn write(&self) -> Progress;
}

/// Writes now, unless a task is at it already, or sees to it that a task does. To a dead worker it goes nowhere: the
/// reader finds the end.
pub(crate) fn push<C: Push>(channel: &Rc<C>) {
    if channel.waiting().get() {
        return;
    }
    let pause = match channel.write() {
        Progress::Done => return,
        Progress::Full => None,
        Progress::Later => Some(TOO_MANY_FILES),
    };
    channel.waiting().set(true);
    // The task must not keep the channel of a worker that is gone.
    let channel = Rc::downgrade(channel);
    tokio::task::spawn_local(async move {
        let mut pause = pause;
        loop {
            if let Some(time) = pause.take() {
                tokio::time::sleep(time).await;
            }
            let Some(channel) = channel.upgrade() else { return };
            match write_when_possible(&*channel).await {
                Progress::Done => return,
                Progress::Full => {}
                Progress::Later => pause = Some(TOO_MANY_FILES),
            }
        }
    });
}

async fn write_when_possible<C: Push>(channel: &C) -> Progress {
    let Ok(mut ready) = channel.socket().writable().await else { return Progress::Done };
    let progress = channel.write();
    match progress {
        Progress::Done => channel.waiting().set(false),
        Progress::Full => ready.clear_ready(),
        Progress::Later => {}
    }
    progress
}
