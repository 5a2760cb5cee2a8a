//! Tasks that look after one accept queue each.

use tokio::task::AbortHandle;

/// One who looks after a queue. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Lookout(AbortHandle);

impl Lookout {
    /// To be called inside a [`tokio::task::LocalSet`].
    pub(crate) fn new(task: impl Future<Output = ()> + 'static) -> Lookout {
        Lookout(tokio::task::spawn_local(task).abort_handle())
    }

    /// False once it had nothing more to look after.
    pub(crate) fn is_there(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.0.abort();
    }
}
