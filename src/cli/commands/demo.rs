//! `demo`: shows a cluster under load, without other programs.

use crate::cli::context::Context;
use crate::cli::demo;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;

/// Show a cluster under load being scaled, reloaded and killed, without a lost request
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Runs about 10 seconds with a daemon of its own in a temporary folder, on a port of 127.0.0.1, \
                        and leaves nothing behind.\n\nExample:\n  pmr demo"
)]
pub struct Args {}

/// [`Outcome::Incomplete`] if a request was lost without need, or a worker did not get its share.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let passed = demo::run(cx.ui).await?;
    Ok(if passed { Outcome::Done } else { Outcome::Incomplete })
}
