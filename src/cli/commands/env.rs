//! `env`: the whole environment of processes.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view;
use crate::spec::target::Selector;

/// Show the environment of processes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr env 0\n  pmr env api --show-secrets")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    /// Also show the values of variables that look like secrets
    #[arg(long)]
    show_secrets: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let described = cx.daemon().await?.describe(args.selectors).await?;
    cx.ui.line(&view::env::text(&described, args.show_secrets, cx.ui.terminal()));
    Ok(Outcome::Done)
}
