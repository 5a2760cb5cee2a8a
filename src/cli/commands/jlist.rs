//! `jlist`: all details of all processes, for programs.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view;

/// Show everything about all processes as JSON, in PM2's shape
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr jlist | jq '.[] | select(.name == \"api\") | .pm2_env.status'\n  \
                        pmr jlist | jq 'map(.monit.memory) | add'")]
pub struct Args {
    /// Also show values that look like secrets in variables and arguments
    #[arg(long)]
    show_secrets: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let described = match cx.daemon_if_any().await? {
        Some(daemon) => daemon.describe_all().await?,
        None => Vec::new(),
    };
    cx.ui.raw(&view::jlist::json(&described, args.show_secrets));
    // Freeing a long list takes longer than making the text did, and the process ends here.
    std::mem::forget(described);
    Ok(Outcome::Done)
}
