//! `resurrect`: bring back what ran, or what was saved.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, Lengths, Outcome};

/// Start what ran before, or was saved, and does not run yet
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With `autosave` on, as it is unless `pmr set autosave off`, this is what ran when the daemon last \
                  ended; else what `pmr save` wrote.\n\nExamples:\n  pmr resurrect\n  pmr resurrect --no-daemon    in the foreground, for init systems"
)]
pub struct Args {}

/// Carries the command out. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let client = cx.daemon_or_start().await?;
    let report = client.resurrect().await?;
    outcome::conclude(&report, &client, &Lengths::default(), cx).await
}
