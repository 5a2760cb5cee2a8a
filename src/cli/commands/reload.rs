//! `reload`: replaced without a gap.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use super::{Asked, Revision};
use crate::protocol::{Action, Launch};

/// Replace processes one after another, each by a successor that is ready: no request is lost
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr reload api\n  pmr reload all --parallel 2\n  pmr reload api --update-env\n  pmr reload ecosystem.config.js"
)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// How many processes of one app are replaced at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
}

/// Runs it.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    Revision::new(args.asked)?
        .carry_out(
            Launch::OrReload { parallel: args.parallel },
            |changes| Action::Reload { changes, parallel: args.parallel },
            cx,
        )
        .await
}
