//! `reloadLogs`: open log files anew, for rotation by others.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Open all log files anew, after something else has renamed them
#[derive(clap::Args, Debug)]
#[command(after_help = "Example, in a logrotate file:\n  postrotate\n    pmr reloadLogs\n  endscript")]
pub struct Args {}

/// Carries the command out. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    cx.daemon().await?.act(Action::ReopenLogs, vec![Selector::All]).await?;
    cx.ui.say("opened the log files anew");
    Ok(Outcome::Done)
}
