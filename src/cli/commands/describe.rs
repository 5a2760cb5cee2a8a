//! `describe`: all details of processes, for people.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view;
use crate::spec::target::Selector;

/// Show everything about processes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr describe api\n  pmr show 0")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    /// Also show values that look like secrets in variables and arguments
    #[arg(long)]
    show_secrets: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let described = cx.daemon().await?.describe(args.selectors).await?;
    cx.ui.line(&view::describe::text(&described, args.show_secrets, cx.now(), cx.ui.terminal()));
    Ok(Outcome::Done)
}
