//! `restart`: down and up again.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use super::{Asked, Revision};
use crate::protocol::{Action, Launch};

/// Stop and start processes, at once; one that is stopped is started
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr restart api\n  pmr restart all\n  pmr restart api --update-env\n  pmr restart ecosystem.config.js --only api"
)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
}

/// Runs it.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    Revision::new(args.asked)?.carry_out(Launch::OrRestart, Action::Restart, cx).await
}
