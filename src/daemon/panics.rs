//! What becomes of a mistake of ours that makes a thread panic.
//!
//! On God's thread it ends his process at once, with nothing cleaned up, since what he has open is open for the God after
//! him, too. A client's conversation is the exception: that one alone ends, or a frame that nobody can read would end one
//! God after the other.

use std::io::Write;
use std::panic;
use std::thread;

use super::disk::log;
use crate::os::process::clone_files;
use crate::paths::Home;

/// Exit code of a God whose thread panicked.
const PANICKED: i32 = 101;

tokio::task_local! {
    /// Set while a client is talked to.
    static IN_CONVERSATION: ();
}

/// From now on a panic on this thread, which is God's, ends the process.
pub fn end_god(home: &Home) {
    let (path, god) = (home.daemon_log(), thread::current().id());
    panic::set_hook(Box::new(move |what| {
        // The log's own thread may not come to it any more. What cannot be written has nowhere to go.
        let _ = std::fs::File::options().append(true).open(&path).and_then(|mut log| {
            writeln!(log, "{} ERROR {} panicked: {what}", log::now(), thread::current().name().unwrap_or("a thread"))
        });
        if thread::current().id() == god && IN_CONVERSATION.try_with(|()| ()).is_err() {
            clone_files::leave(PANICKED);
        }
    }));
}

/// Runs a conversation, whose panic is its own affair.
pub async fn on_its_own(conversation: impl Future<Output = ()>) {
    IN_CONVERSATION.scope((), conversation).await;
}
