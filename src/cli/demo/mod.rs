//! `pmr demo`: what pmr does, shown in seconds on a machine that has nothing but pmr.
//!
//! A daemon of its own in a temporary home runs a small web server ([`worker`]) as a cluster. [`load`] is on it from the
//! start to the end, while the scenario scales, reloads and kills. Afterwards nothing is left: no process, no file.

pub mod load;
mod scenario;
mod table;
pub mod worker;

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::Client;
use crate::cli::failure::{Doing, Failure};
use crate::cli::shutdown;
use crate::cli::ui::Ui;
use crate::paths::Home;

/// The longest path a Unix socket can have.
const SOCKET_PATH: usize = 107;
/// Limit for the end of the daemon: stopping some idle workers takes much less.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// Runs the demo on the terminal. True if no request was lost but those inside the worker that is killed, and every worker
/// had its share.
///
/// # Errors
/// If something could not be carried out at all, or the user stopped it.
pub async fn run(ui: Ui) -> Result<bool, Failure> {
    let scratch = scratch()?;
    let home = Home::new(scratch.path().to_owned());
    // The client stays silent: the scenario says how far things are.
    let client = Client::connect_or_start(&home, Ui::new(true, true)).await?;
    let result = tokio::select! {
        result = scenario::run(&client, &home, ui) => result,
        interrupted = interrupted() => Err(interrupted),
    };
    let cleaned_up = clean_up(&client, &home, scratch).await;
    // Why the scenario ended comes before why the cleaning up failed.
    let steps = result?;
    cleaned_up?;
    ui.line(&format!("\n{}", table::table(&steps, ui.terminal())));
    ui.line(&table::verdict(&steps));
    ui.show(table::WHAT_NEXT);
    Ok(table::promise_held(&steps))
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

/// Returns when the user stops the demo: Ctrl-C, SIGTERM, or the terminal is closed.
async fn interrupted() -> Failure {
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

/// Ends the daemon and all it runs, then removes the home. A daemon that does not end is killed, its workers end when
/// their channel does, and the home stays, so that its log can be read.
async fn clean_up(client: &Client, home: &Home, scratch: TempDir) -> Result<(), Failure> {
    let failure = match tokio::time::timeout(SHUTDOWN_LIMIT, shutdown::end(client, home)).await {
        Ok(Ok(_)) => return scratch.close().doing(|| format!("removing {}", home.root().display())),
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("it takes longer than {} s", SHUTDOWN_LIMIT.as_secs()),
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
