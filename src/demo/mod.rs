//! `pmr demo`: what pmr does, shown in seconds on a machine that has nothing but pmr.
//!
//! A daemon of its own in a scratch home runs a small web server ([`worker`]) as a cluster. [`load`] is on it from the
//! start to the end, while the story scales, reloads and kills. Afterwards nothing is left: no process, no file.

pub mod load;
mod story;
mod table;
pub mod worker;

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::Client;
use crate::cli::commands::kill;
use crate::cli::failure::{Doing, Failure};
use crate::cli::outcome::Outcome;
use crate::cli::ui::Ui;
use crate::paths::Home;

/// The longest path a Unix socket can have.
const SOCKET_PATH: usize = 107;
/// Stopping some idle workers takes much less.
const LEAVING: Duration = Duration::from_secs(15);

/// Runs it. Done if no request was lost but those inside the worker that is killed, and every worker had its share.
///
/// # Errors
/// If something could not be carried out at all, or the user stopped it.
pub async fn run(ui: Ui) -> Result<Outcome, Failure> {
    let scratch = scratch()?;
    let home = Home::new(scratch.path().to_owned());
    // Our own words tell how far things are.
    let client = Client::connect_or_start(&home, Ui::new(true, true)).await?;
    let told = tokio::select! {
        told = story::tell(&client, &home, ui) => told,
        stopped = stopped() => Err(stopped),
    };
    let left = leave(&client, &home, scratch).await;
    // Why the story ended comes before why the cleaning up failed.
    let steps = told?;
    left?;
    ui.line(&format!("\n{}", table::table(&steps, ui.look())));
    ui.line(&table::verdict(&steps));
    ui.show(table::WHAT_NEXT);
    Ok(if table::promise_held(&steps) { Outcome::Done } else { Outcome::Incomplete })
}

/// A home of its own, short enough for sockets.
fn scratch() -> Result<TempDir, Failure> {
    let parent = std::env::temp_dir();
    let made = tempfile::Builder::new().prefix("pmr-demo-").tempdir_in(&parent);
    let made = made.doing(|| format!("making a folder in {}", parent.display()))?;
    if Home::new(made.path().to_owned()).rpc_sock().as_os_str().as_bytes().len() <= SOCKET_PATH {
        return Ok(made);
    }
    tempfile::Builder::new().prefix("pmr-demo-").tempdir_in("/tmp").doing(|| "making a folder in /tmp".into())
}

/// Comes when the user wants no more of it.
async fn stopped() -> Failure {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)] = signals else {
        return Failure::new("signals cannot be handled");
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Failure::interrupted("demo")
}

/// Ends the daemon and all it runs, then removes the home. A daemon that does not end is killed, its workers end for
/// lack of it, and the home stays for a look at the log.
async fn leave(client: &Client, home: &Home, scratch: TempDir) -> Result<(), Failure> {
    let failure = match tokio::time::timeout(LEAVING, kill::end(client, home)).await {
        Ok(Ok(_)) => return scratch.close().doing(|| format!("removing {}", home.root().display())),
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("it takes longer than {} s", LEAVING.as_secs()),
    };
    if let Some(daemon) = client.peer().and_then(Pid::from_raw) {
        let _ = kill_process(daemon, Signal::KILL);
    }
    let kept = scratch.keep();
    Err(Failure::new(format!("the demo's daemon did not end in order and was killed: {failure}")).hint(format!(
        "its log is {}; remove {} when you have seen it",
        home.daemon_log().display(),
        kept.display()
    )))
}
