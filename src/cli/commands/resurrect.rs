//! `resurrect`: bring back what was saved.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::{self, Outcome};

/// Start what was saved and does not run yet
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr resurrect\n  pmr resurrect --no-daemon    in the foreground, for init systems"
)]
pub struct Args {}

/// Runs it.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let client = cx.daemon_or_start().await?;
    let report = client.resurrect().await?;
    if report.lines.is_empty() && report.notes.is_empty() {
        cx.ui.say("everything that was saved is here already");
    }
    outcome::conclude(&report, &client, cx).await
}
