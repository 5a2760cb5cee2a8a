//! `ping`: checks whether the daemon runs.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;

/// Check whether the daemon runs; never starts it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  pmr ping && echo it is there")]
pub struct Args {}

/// Runs the command. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let hello = cx.daemon().await?.hello().await?;
    cx.ui.line(&format!("pong: version {}, pid {}, home {}", hello.version, hello.pid, hello.home.display()));
    Ok(Outcome::Done)
}
