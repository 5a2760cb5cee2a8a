//! `pmr demo`: shows the main features of pmr in seconds, without other programs.
//!
//! A daemon of its own in a temporary home runs a small web server ([`worker`]) as a cluster. [`load`] runs from the
//! start to the end, while the scenario scales, reloads and kills. Afterwards no process and no file is left.

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

/// Limit of the path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// Limit for the end of the daemon: stopping some idle workers takes much less.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// Runs the demo on the terminal. Returns true if only requests inside the killed worker were lost, and every worker
/// had its share.
///
/// # Errors
/// If a step could not be carried out, or the user stopped the demo.
pub async fn run(ui: Ui) -> Result<bool, Failure> {
    let scratch = scratch()?;
    let home = Home::new(scratch.path().to_owned());
    // The client is silent, because the scenario prints the progress.
    let client = Client::connect_or_start(&home, Ui::new(true, true)).await?;
    let result = tokio::select! {
        result = scenario::run(&client, &home, ui) => result,
        interrupted = interrupted() => Err(interrupted),
    };
    let cleaned_up = clean_up(&client, &home, scratch).await;
    // The failure of the scenario is more important than that of the cleanup.
    let steps = result?;
    cleaned_up?;
    ui.line(&format!("\n{}", table::table(&steps, ui.terminal())));
    ui.line(&table::verdict(&steps));
    ui.show(table::WHAT_NEXT);
    Ok(table::passed(&steps))
}

/// A temporary home whose path is short enough for sockets.
fn scratch() -> Result<TempDir, Failure> {
    let parent = std::env::temp_dir();
    let made = tempfile::Builder::new().prefix("pmr-demo-").tempdir_in(&parent);
    let made = made.doing(|| format!("creating a folder in {}", parent.display()))?;
    if Home::new(made.path().to_owned()).rpc_sock().as_os_str().as_bytes().len() <= SOCKET_PATH {
        return Ok(made);
    }
    tempfile::Builder::new().prefix("pmr-demo-").tempdir_in("/tmp").doing(|| "creating a folder in /tmp".into())
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

/// Ends the daemon and its apps, then removes the home. A daemon that does not end is killed, its workers end when
/// their channel closes, and the home stays, so that its log can be read.
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
        "its log is {}; remove {} afterwards",
        home.daemon_log().display(),
        kept.display()
    )))
}
