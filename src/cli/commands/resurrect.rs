//! `resurrect`: starts the processes that ran before, or the saved list.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, LogLengths, Outcome};

/// Start the processes that ran before, or the saved list, unless they run already
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With `autosave` on (the default), starts the processes that ran when the daemon last ended; after \
                  `pmr set autosave off`, the list that `pmr save` wrote.\n\n\
                  Examples:\n  pmr resurrect\n  pmr resurrect --no-daemon    in the foreground, for init systems"
)]
pub struct Args {}

/// Runs the command. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let client = cx.daemon_or_start().await?;
    let report = client.resurrect().await?;
    outcome::conclude(&report, &client, &LogLengths::default(), cx).await
}
