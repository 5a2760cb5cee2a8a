//! `id`: the ids of an app's processes.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::selectors::matching;
use crate::spec::target::Selector;

/// Show the ids of processes, as `[ 0, 1 ]`; `[]` if there are none
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  pmr id api")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let processes = cx.daemon().await?.list().await?;
    let ids: Vec<String> = matching(&processes, &args.selectors).iter().map(|info| info.id.to_string()).collect();
    let text = if ids.is_empty() { "[]".to_owned() } else { format!("[ {} ]", ids.join(", ")) };
    cx.ui.line(&text);
    Ok(Outcome::Done)
}
