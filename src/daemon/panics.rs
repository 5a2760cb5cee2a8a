//! Handles panics, which are bugs of pmr.
//!
//! A panic on God's thread ends the process at once, without any cleanup: God shares its table of open files with the
//! keeper, so a file that it closed would be closed for the next God, too. The exception is the task that serves one RPC
//! client: a panic there ends only that connection. Otherwise a client that sends the same frame again after each
//! reconnect would end one God after the other.

use std::io::Write;
use std::panic;
use std::thread;

use super::disk::log;
use crate::os::process::clone_files;
use crate::paths::Home;

/// Exit code of a God whose thread panicked.
const PANICKED: i32 = 101;

tokio::task_local! {
    /// Set in a task that serves an RPC client.
    static SERVES_CLIENT: ();
}

/// Makes a panic on the calling thread, which is God's, end the process. A panic on another thread is only logged.
pub fn install_hook(home: &Home) {
    let (path, god) = (home.daemon_log(), thread::current().id());
    panic::set_hook(Box::new(move |what| {
        // Written directly: the process may end before the log's own thread writes the line. A failed write is ignored,
        // since it could be reported nowhere else.
        let _ = std::fs::File::options().append(true).open(&path).and_then(|mut log| {
            writeln!(log, "{} ERROR {} panicked: {what}", log::now(), thread::current().name().unwrap_or("a thread"))
        });
        if thread::current().id() == god && SERVES_CLIENT.try_with(|()| ()).is_err() {
            clone_files::leave(PANICKED);
        }
    }));
}

/// Runs the task that serves one client. A panic in it does not end the process.
pub async fn isolate_client(task: impl Future<Output = ()>) {
    SERVES_CLIENT.scope((), task).await;
}
