//! `pid`: the pids of an app's processes.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::selectors::{matching, or_all};
use crate::spec::target::Selector;

/// Show the pids of processes, one a line; 0 if a process does not run, an empty line if there is no process
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr pid api\n  kill -USR1 $(pmr pid api)")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/; all if none is named
    #[arg(value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let processes = cx.daemon().await?.list().await?;
    let selectors = or_all(args.selectors);
    let pids: Vec<String> =
        matching(&processes, &selectors).iter().map(|info| info.pid.unwrap_or(0).to_string()).collect();
    cx.ui.line(&pids.join("\n"));
    Ok(Outcome::Done)
}
