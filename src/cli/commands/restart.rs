//! `restart`: stops and starts processes.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::revision::{Revision, RevisionArgs};
use crate::protocol::{Action, Launch};

/// Stop and start processes, at once; starts stopped ones
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr restart api\n  pmr restart all\n  pmr restart api --update-env\n  pmr restart ecosystem.config.js --only api"
)]
pub struct Args {
    #[command(flatten)]
    revision: RevisionArgs,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    Revision::new(args.revision)?.carry_out(Launch::OrRestart, Action::Restart, cx).await
}
