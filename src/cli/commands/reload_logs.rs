//! `reloadLogs`: reopens log files after an external rotation.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Reopen all log files, after another program has renamed them
#[derive(clap::Args, Debug)]
#[command(after_help = "Example, in a logrotate file:\n  postrotate\n    pmr reloadLogs\n  endscript")]
pub struct Args {}

/// Runs the command. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    cx.daemon().await?.act(Action::ReopenLogs, vec![Selector::All]).await?;
    cx.ui.info("reopened the log files");
    Ok(Outcome::Done)
}
