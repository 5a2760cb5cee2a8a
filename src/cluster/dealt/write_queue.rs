//! Writing to a worker without ever waiting for it: at once as much as the socket takes, the rest by a task as soon as
//! the worker reads on.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// Pause when the kernel has too many files of the daemon in flight.
const TOO_MANY_FILES: Duration = Duration::from_millis(10);

/// How far writing got.
pub(crate) enum Progress {
    /// All is written, or waits for a message of the worker.
    Done,
    /// The socket's buffer is full.
    SocketFull,
    /// The kernel cannot take more files now; there is no event for the moment when it can.
    RetryLater,
}

/// A channel with a queue of its own.
pub(crate) trait WriteQueue: 'static {
    fn socket(&self) -> &AsyncFd<OwnedFd>;

    /// True while a task waits to go on writing.
    fn has_task(&self) -> &Cell<bool>;

    /// Writes what can be written. Never sleeps.
    fn write(&self) -> Progress;
}

/// Writes now, unless a task does so already, or starts a task that does. What is sent to a dead worker is lost: the
/// reader of the channel finds its end.
pub(crate) fn write_or_schedule<C: WriteQueue>(channel: &Rc<C>) {
    if channel.has_task().get() {
        return;
    }
    let pause = match channel.write() {
        Progress::Done => return,
        Progress::SocketFull => None,
        Progress::RetryLater => Some(TOO_MANY_FILES),
    };
    channel.has_task().set(true);
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
                Progress::SocketFull => {}
                Progress::RetryLater => pause = Some(TOO_MANY_FILES),
            }
        }
    });
}

async fn write_when_possible<C: WriteQueue>(channel: &C) -> Progress {
    let Ok(mut ready) = channel.socket().writable().await else { return Progress::Done };
    let progress = channel.write();
    match progress {
        Progress::Done => channel.has_task().set(false),
        Progress::SocketFull => ready.clear_ready(),
        Progress::RetryLater => {}
    }
    progress
}
