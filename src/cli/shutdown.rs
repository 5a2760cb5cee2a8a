//! Ends the daemon and waits until its process is gone.

use std::time::Duration;

use super::client::Client;
use super::failure::Failure;
use crate::os::process::pidfd;
use crate::paths::Home;
use crate::protocol::Report;

/// Time within which the daemon must exit after it has stopped its apps.
const LIMIT: Duration = Duration::from_secs(30);

/// Stops every app, ends the daemon, and returns when its process is gone.
pub async fn end(client: &Client, home: &Home) -> Result<Report, Failure> {
    let pid = client.hello().await?.pid;
    // Opened before the shutdown request, so that it refers to this process and not to a later one with the same pid.
    let process = pidfd::open(pid).ok();
    let report = client.shut_down().await?;
    // The runtime has nothing else to do, so the thread itself may wait.
    if process.is_some_and(|process| !pidfd::ends_within(process, LIMIT)) {
        return Err(Failure::new(format!("the daemon (pid {pid}) stopped its apps, but does not exit"))
            .hint(format!("see {}", home.daemon_log().display())));
    }
    Ok(report)
}
